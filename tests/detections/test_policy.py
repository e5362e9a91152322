"""Which policy an event is judged by: recorded versions, rollbacks, looks back, history."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.detections.ledger import Window
from pipeline.detections.policy import read_policy, record_policy
from pipeline.detections.run import run_detections
from pipeline.lake import Lake, open_lake
from pipeline.registry import load_registry
from pipeline.registry.columns import ALWAYS
from tests.detections.folders import make_rule
from tests.factories import NOW, tool_call, write_events

JAN, FEB, MAR, APR = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4))


@pytest.fixture
def lake(tmp_path):
    """A lake with the one table that the record needs: a whole one takes ten times as long."""
    lake = Lake(str(tmp_path / "lake"))
    (tmp_path / "lake").mkdir()
    lake.folders()["policy_versions"].create()
    return lake


@pytest.fixture
def policy(tmp_path):
    """Write an agents.yaml (and more files) into a folder of its own and load it."""

    def load(agents, **files):
        folder = tmp_path / f"registry-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, text in ({"agents": f"agents:\n{agents}"} | files).items():
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        return load_registry(folder)

    return load


def periods(registry, key="max_depth", identity="bot"):
    """Return (from, to, value) of each period, None for the ends of time."""
    rows = registry.tables()["reg_identities_as_of"].to_pylist()
    return [
        (
            None if row["valid_from"] == ALWAYS[0] else row["valid_from"],
            None if row["valid_to"] == ALWAYS[1] else row["valid_to"],
            row[key],
        )
        for row in rows
        if row["identity_id"] == identity
    ]


def test_the_first_version_on_record_holds_for_all_time(lake, policy):
    registry = record_policy(lake, policy("  bot: {max_depth: 2}"), MAR)

    assert periods(registry) == [(None, None, 2)]
    assert lake.read_table("policy_versions").num_rows == 1


def test_a_later_version_holds_from_the_run_that_first_used_it(lake, policy):
    record_policy(lake, policy("  bot: {max_depth: 2}"), JAN)

    registry = record_policy(lake, policy("  bot: {max_depth: 5}"), MAR)

    assert periods(registry) == [(None, MAR, 2), (MAR, None, 5)]
    assert registry.tables()["reg_identities"].to_pylist()[0]["max_depth"] == 5


def test_the_same_version_again_adds_nothing(lake, policy):
    registry = policy("  bot: {max_depth: 2}")
    first = record_policy(lake, registry, JAN)

    again = record_policy(lake, registry, MAR)

    assert lake.read_table("policy_versions").num_rows == 1
    assert again.tables() == first.tables()


def test_a_rollback_holds_from_its_own_run_and_not_from_when_it_was_first_used(lake, policy):
    old, new = policy("  bot: {max_depth: 2}"), policy("  bot: {max_depth: 5}")
    record_policy(lake, old, JAN)
    record_policy(lake, new, FEB)

    registry = record_policy(lake, old, MAR)

    assert periods(registry) == [(None, FEB, 2), (FEB, MAR, 5), (MAR, None, 2)]
    texts = lake.read_table("policy_versions")["decisions"].to_pylist()
    assert sorted(text is None for text in texts) == [False, False, True]


def test_versions_of_one_moment_follow_each_other_as_they_were_run(lake, policy):
    versions = [policy(f"  bot: {{max_depth: {depth}}}") for depth in range(1, 6)]

    for registry in versions:
        seen = record_policy(lake, registry, MAR)

    assert periods(seen) == [(None, MAR, 1), (MAR, None, 5)]
    assert periods(record_policy(lake, versions[0], MAR)) == [(None, None, 1)]


def test_a_run_as_of_the_past_reads_the_record_and_leaves_it(lake, policy):
    record_policy(lake, policy("  bot: {max_depth: 2}"), FEB)

    registry = record_policy(lake, policy("  bot: {max_depth: 9}\n  late: {max_depth: 1}"), JAN)

    assert lake.read_table("policy_versions").num_rows == 1
    assert periods(registry)[0] == (None, FEB, 2)
    assert periods(registry, identity="late") == [(None, None, 1)]


def test_a_run_as_of_the_future_records_its_version_as_of_the_present(lake, policy):
    record_policy(lake, policy("  bot: {max_depth: 2}"), JAN)
    far = datetime.now(UTC) + timedelta(days=3650)
    record_policy(lake, policy("  bot: {max_depth: 5}"), far)

    now = datetime.now(UTC)
    registry = record_policy(lake, policy("  bot: {max_depth: 7}"), now)

    assert [value for *_, value in periods(registry)] == [2, 5, 7]
    assert periods(registry)[-1][0] == now


def test_an_identity_holds_for_all_time_before_the_version_that_first_knows_it(lake, policy):
    record_policy(lake, policy("  bot: {}"), JAN)

    registry = record_policy(lake, policy("  bot: {}\n  new: {max_depth: 3}"), MAR)

    assert periods(registry, identity="new") == [(None, None, 3)]


def test_an_identity_that_leaves_the_registry_has_no_period_until_it_returns(lake, policy):
    with_both = policy("  bot: {max_depth: 3}\n  other: {}")
    record_policy(lake, with_both, JAN)
    record_policy(lake, policy("  other: {}"), FEB)

    registry = record_policy(lake, with_both, MAR)

    assert periods(registry) == [(None, FEB, 3), (MAR, None, 3)]


def test_a_version_that_changes_only_facts_makes_no_new_period(lake, policy):
    record_policy(lake, policy("  bot: {max_depth: 2}"), JAN)

    registry = record_policy(
        lake, policy("  bot: {max_depth: 2}", people="people: {ann: {status: active}}"), MAR
    )

    assert lake.read_table("policy_versions").num_rows == 2
    assert periods(registry) == [(None, None, 2)]


def test_limits_of_a_class_change_with_the_class(lake, policy):
    agent = "  bot: {class: worker}"
    record_policy(lake, policy(agent, classes="classes: {worker: {max_depth: 2}}"), JAN)

    registry = record_policy(
        lake, policy(agent, classes="classes: {worker: {version: '2', max_depth: 4}}"), MAR
    )

    assert periods(registry) == [(None, MAR, 2), (MAR, None, 4)]
    classes = registry.tables()["reg_classes_as_of"].to_pylist()
    assert [(row["version"], row["valid_to"]) for row in classes] == [(None, MAR), ("2", ALWAYS[1])]
    assert classes[0]["scope_hash"] != classes[1]["scope_hash"]


def test_without_a_registry_nothing_is_recorded_and_one_that_comes_later_holds_for_all_time(
    lake, policy
):
    record_policy(lake, load_registry(None), JAN)

    registry = record_policy(lake, policy("  bot: {max_depth: 2}"), MAR)

    assert periods(registry) == [(None, None, 2)]


def test_history_tells_the_states_before_the_present_one(policy):
    registry = policy(
        "  bot:\n"
        "    max_depth: 2\n"
        "    status: suspended\n"
        "    history:\n"
        "      - {until: 2026-03-01, status: active}\n"
        "      - {until: 2026-02-01, status: active, max_depth: null}\n"
    )

    assert periods(registry) == [(None, FEB, None), (FEB, MAR, 2), (MAR, None, 2)]
    assert [status for *_, status in periods(registry, "status")] == [
        "active",
        "active",
        "suspended",
    ]


def test_history_wins_over_the_record(lake, policy):
    record_policy(lake, policy("  bot: {max_depth: 9}"), JAN)

    registry = record_policy(
        lake, policy("  bot: {max_depth: 2, history: [{until: 2026-02-01, max_depth: 4}]}"), APR
    )

    assert periods(registry) == [(None, FEB, 4), (FEB, None, 2)]


def test_history_that_still_stands_does_not_undo_what_was_recorded_after_it(lake, policy):
    history = "history: [{until: 2026-02-01, max_depth: 4}]"
    record_policy(lake, policy(f"  bot: {{max_depth: 2, {history}}}"), FEB)

    registry = record_policy(lake, policy(f"  bot: {{max_depth: 3, {history}}}"), APR)

    assert periods(registry) == [(None, FEB, 4), (FEB, APR, 2), (APR, None, 3)]


def test_a_class_that_changes_under_a_history_is_no_new_statement(lake, policy):
    agent = "  bot: {class: worker, history: [{until: 2026-02-01, status: proposed}]}"
    record_policy(lake, policy(agent, classes="classes: {worker: {max_depth: 2}}"), FEB)

    registry = record_policy(lake, policy(agent, classes="classes: {worker: {max_depth: 6}}"), APR)

    assert periods(registry) == [(None, FEB, 2), (FEB, APR, 2), (APR, None, 6)]


def test_a_version_can_be_stated_to_have_been_in_force_since_an_earlier_time(lake, policy):
    record_policy(lake, policy("  bot: {max_depth: 2}"), FEB)
    record_policy(lake, policy("  bot: {max_depth: 3}"), MAR)

    registry = record_policy(lake, policy("  bot: {max_depth: 7}"), APR, since=JAN)

    assert periods(registry) == [(None, JAN, 2), (JAN, None, 7)]


def test_a_version_can_be_stated_to_have_been_in_force_always_at_the_time_of_its_own_record(
    lake, policy
):
    registry = policy("  bot: {max_depth: 7}")
    record_policy(lake, policy("  bot: {max_depth: 2}"), FEB)
    record_policy(lake, registry, APR)

    stated = record_policy(lake, registry, APR, since=ALWAYS[0])

    assert periods(stated) == [(None, None, 7)]
    assert periods(record_policy(lake, registry, APR)) == [(None, None, 7)]


def test_two_jobs_at_once_record_what_one_would(lake, policy):
    record_policy(lake, policy("  bot: {max_depth: 2}"), JAN)
    registry = policy("  bot: {max_depth: 5}")

    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(record_policy, Lake(lake.uri), registry, MAR) for _ in range(2)]
        found = [periods(run.result()) for run in runs]

    assert found == [[(None, MAR, 2), (MAR, None, 5)]] * 2
    assert periods(record_policy(lake, registry, APR)) == found[0]


def test_reading_the_record_does_not_write_it(lake, policy):
    record_policy(lake, policy("  bot: {max_depth: 2}"), FEB)

    registry = read_policy(lake, policy("  bot: {max_depth: 5}"))

    assert periods(registry) == [(None, FEB, 2), (FEB, None, 5)]
    assert lake.read_table("policy_versions").num_rows == 1


def test_times_and_lists_come_back_from_the_record_as_they_went_in(lake, policy):
    registry = policy(
        "  bot: {registered_at: 2026-01-01T02:00:00+02:00, expected_tools: [a], is_broker: true,"
        " history: [{until: 2026-02-01, expected_tools: []}]}"
    )
    alone = registry.tables()["reg_identities_as_of"]

    record_policy(lake, registry, FEB)
    again = record_policy(lake, registry, MAR)

    assert again.tables()["reg_identities_as_of"].equals(alone)


def exceptions(registry):
    return [
        (row["secret_id"], row["since"], row["until"])
        for row in registry.tables()["reg_static_exceptions"].to_pylist()
    ]


def test_an_exception_without_a_beginning_does_not_excuse_what_was_before_its_record(lake, policy):
    record_policy(lake, policy("  bot: {}"), JAN)

    registry = record_policy(
        lake, policy("  bot: {static_secret_exception_until: 2026-04-01}"), FEB
    )

    assert exceptions(registry) == [(None, FEB, APR)]


def test_an_exception_holds_between_its_dates_and_for_its_secret(lake, policy):
    given = (
        "  bot: {static_secret_exceptions: [{secret_id: key-1, reason: legacy, approved_by: ann,"
        " since: 2026-01-01, until: 2026-04-01}]}"
    )

    registry = record_policy(lake, policy(given), MAR)

    assert exceptions(registry) == [("key-1", JAN, APR)]


def test_an_exception_that_is_withdrawn_ends_there(lake, policy):
    record_policy(lake, policy("  bot: {static_secret_exception_until: 2027-01-01}"), JAN)

    registry = record_policy(lake, policy("  bot: {}"), MAR)

    assert exceptions(registry) == [(None, ALWAYS[0], MAR)]


def test_an_exception_goes_on_while_other_things_change(lake, policy):
    given = "static_secret_exception_until: 2026-04-01"
    record_policy(lake, policy(f"  bot: {{{given}}}"), JAN)
    record_policy(lake, policy(f"  bot: {{{given}, max_depth: 3}}"), FEB)

    registry = record_policy(lake, policy(f"  bot: {{{given}, max_depth: 4}}"), MAR)

    assert exceptions(registry) == [(None, ALWAYS[0], APR)]


LIMITED = """\
SELECT
    call.tenant_id,
    call.agent_id,
    call.agent_id AS entity,
    call.agent_id AS identity_id,
    call.event_time AS first_seen,
    call.event_time AS last_seen,
    [call.event_uid] AS event_uids
FROM tool_calls AS call
JOIN reg_identities_as_of AS identity
    ON call.agent_id = identity.identity_id
    AND call.event_time >= identity.valid_from AND call.event_time < identity.valid_to
WHERE identity.status = 'suspended'
"""


@pytest.mark.slow
def test_a_finding_of_yesterday_outlives_a_change_of_policy_and_falls_with_a_correction(
    tmp_path, policy
):
    lake = open_lake(str(tmp_path / "lake"), create=True)
    write_events(lake, [tool_call(agent_id="bot", event_time="2026-11-20T12:00:00Z")])
    rule = make_rule(
        tmp_path, "suspended", sql=LIMITED, tables='["tool_calls", "reg_identities_as_of"]'
    )
    suspended, active = policy("  bot: {status: suspended}"), policy("  bot: {status: active}")
    corrected = policy("  bot: {status: suspended, history: [{until: 2026-11-21, status: active}]}")

    def statuses(registry, now):
        run_detections(lake, registry, rules=[rule], window=Window(), now=now)
        with lake.connect(comments=False) as con:
            return [row[0] for row in con.execute("SELECT status FROM findings").fetchall()]

    day = timedelta(days=1)
    assert statuses(suspended, NOW) == ["open"]
    assert statuses(active, NOW + day) == ["open"]
    assert statuses(corrected, NOW + 2 * day) == ["refuted"]
    with lake.connect(comments=False) as con:
        found = con.execute("SELECT status FROM identity_periods ORDER BY valid_from").fetchall()
    assert found == [("active",), ("suspended",)]
