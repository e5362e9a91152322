"""What is missing, and why: gap kinds, silences, coverage, and what retention leaves behind."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.chains import build_chains, scope
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.chains.stories import Dice
from tests.chains.worlds import BY_SOURCE, DERIVED, World, built
from tests.factories import NOW, secret_event, token_event, tool_call, write_events

ALL = (*DERIVED, *BY_SOURCE)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    (folder / "sources.yaml").write_text("sources:\n  as: {expected_interval_s: 600}\n")
    (folder / "agents.yaml").write_text(
        "agents:\n  helper: {kind: agent, human_root_required: true}\n  cron: {kind: agent}\n"
    )
    return load_registry(folder)


def at(minute):
    """Return a time so many minutes after 06:00, six hours before NOW."""
    return NOW + timedelta(minutes=minute - 360)


def issue(name, minute, **over):
    return token_event(
        **{"source": "as", "credential_id": name, "event_time": at(minute), "client_id": "web"}
        | over
    )


def use(name, minute, **over):
    shown = {"credential_issuer": "https://idp.test", "credential_kind": "jti"}
    return tool_call(
        **{"source": "gw", "event_time": at(minute), "credential_id": name} | shown | over
    )


def beats(since, until, tenant):
    """Return an issuance each ten minutes: what the registry expects of the source `as`."""
    return [
        issue(f"beat-{minute}", minute, tenant_id=tenant) for minute in range(since, until + 1, 10)
    ]


# Each story is a tenant.  The source `as` is silent from minute 100 to 160 in `outage`.
def outage(tenant):
    return [*beats(0, 100, tenant), *beats(160, 350, tenant)]


STORY = [
    *outage("in"),
    use("lost", 130, tenant_id="in"),
    *outage("after"),
    use("lost", 219, tenant_id="after"),
    *outage("long after"),
    use("lost", 221, tenant_id="long after"),
    *outage("before"),
    use("lost", 99, tenant_id="before"),
    *outage("issued before"),
    token_event(
        tenant_id="issued before",
        source="gw",
        op="introspect",
        credential_id="lost",
        event_time=at(130),
        issued_at=at(50),
    ),
    *beats(100, 350, "not onboarded"),
    use("lost", 39, tenant_id="not onboarded"),
    *beats(100, 350, "quiet issuer"),
    use("lost", 41, tenant_id="quiet issuer"),
    *beats(0, 350, "actors"),
    issue(
        "blank",
        200,
        tenant_id="actors",
        op="exchange",
        subject_id="bob",
        act_chain=[{"subject": None}],
    ),
    issue(
        "erased",
        201,
        tenant_id="actors",
        op="exchange",
        client_id=None,
        actor_convention="impersonation",
    ),
    issue("orphan", 202, tenant_id="actors", op="exchange", actor_id="coder"),
]


@pytest.fixture(scope="module")
def world(policy):
    return built(STORY, registry=policy)


def gap(world, tenant, name="lost"):
    key = next(
        row["credential_key"]
        for row in world.table("credentials")
        if (row["tenant_id"], row["id"]) == (tenant, name)
    )
    row = next(row for row in world.table("chains") if row["credential_key"] == key)
    return row["status"], row["gap_kind"]


def test_an_issuance_that_is_missing_in_an_outage_of_the_issuer_says_so(world):
    assert gap(world, "in") == ("broken", "source_outage")
    assert gap(world, "after") == ("broken", "source_outage")


@pytest.mark.parametrize("tenant", ["long after", "before", "issued before"])
def test_an_outage_explains_only_what_may_have_been_issued_in_it(world, tenant):
    assert gap(world, tenant) == ("broken", "missing_issue_event")


def test_what_was_used_long_before_the_issuer_first_spoke_had_no_onboarded_source(world):
    assert gap(world, "not onboarded") == ("broken", "source_not_onboarded")
    assert gap(world, "quiet issuer") == ("broken", "missing_issue_event")


def test_an_actor_whom_the_record_does_not_name_is_the_gap(world):
    assert gap(world, "actors", "blank") == ("broken", "missing_actor")
    assert gap(world, "actors", "erased") == ("broken", "missing_actor")
    assert gap(world, "actors", "orphan") == ("broken", "missing_parent_id")


def test_a_silence_has_its_bounds_and_ends_with_the_next_record(world):
    (silence,) = [
        row for row in world.table("source_gaps") if row["tenant_id"] == "in" and row["is_outage"]
    ]

    assert (silence["gap_from"], silence["gap_to"]) == (at(100), at(160))
    assert (silence["expected_interval_s"], silence["is_registered"]) == (600, True)


def test_late_records_fill_an_outage_and_their_chains_mend(policy, monkeypatch):
    monkeypatch.setattr(scope, "_FULL_ABOVE", 100)
    world = World(policy)
    first = [*outage("t"), use("lost", 130, tenant_id="t"), use("found", 131, tenant_id="t")]
    world.feed(first)
    assert gap(world, "t", "found") == ("broken", "source_outage")
    late = [*beats(110, 150, "t"), issue("found", 120, tenant_id="t", auth_time=at(120))]

    assert world.feed(late) == "new events"

    assert gap(world, "t", "found")[0] == "complete"
    # No event of its own came: the end of the outage alone changes it.
    assert gap(world, "t", "lost") == ("broken", "missing_issue_event")
    assert world.rows(only=ALL) == built([*first, *late], registry=policy).rows(only=ALL)


def test_coverage_and_silences_built_in_batches_are_those_of_one_build(policy, monkeypatch):
    monkeypatch.setattr(scope, "_FULL_ABOVE", 100)
    events = [*Dice(5, 30).events(30), *STORY[:20], secret_event(source="vault")]
    world = World(policy)

    for start in range(0, len(events), 26):
        world.feed(events[start : start + 26])

    assert world.rows(only=ALL) == built(events, registry=policy).rows(only=ALL)


def habits(source, days, step_h):
    return [
        secret_event(source=source, event_time=NOW - timedelta(days=days, hours=-hour))
        for hour in range(0, days * 24 + 1, step_h)
    ]


def learned(events):
    return [row for row in built(events).table("source_gaps") if row["is_outage"]]


def test_a_stream_that_stops_against_its_habit_while_others_speak_is_an_outage():
    stopped = [
        event for event in habits("mute", 9, 1) if event["event_time"] <= NOW - timedelta(hours=4)
    ]

    (silence,) = learned([*stopped, *habits("loud", 9, 1)])

    assert (silence["source"], silence["gap_to"]) == ("mute", None)
    assert silence["gap_from"] == NOW - timedelta(hours=4)


def test_streams_that_stop_together_are_no_outage_of_any():
    both = [
        event
        for event in [*habits("one", 9, 1), *habits("two", 9, 1)]
        if event["event_time"] <= NOW - timedelta(hours=4)
    ]

    assert learned(both) == []


def test_a_file_that_ends_is_closed():
    ended = [
        event | {"kafka_topic": "file:mute"}
        for event in habits("mute", 9, 1)
        if event["event_time"] <= NOW - timedelta(hours=4)
    ]

    assert learned([*ended, *habits("loud", 9, 1)]) == []


def test_a_week_is_needed_to_know_what_is_normal():
    stopped = [
        event for event in habits("mute", 6, 1) if event["event_time"] <= NOW - timedelta(hours=4)
    ]

    assert learned([*stopped, *habits("loud", 6, 1)]) == []


def test_coverage_counts_subjects_only_where_the_class_wants_one(policy):
    calls = [
        tool_call(source="gw", agent_id="helper", subject_id="alice", workload_id="w"),
        tool_call(source="gw", agent_id="helper"),
        tool_call(source="gw", agent_id="cron"),
        tool_call(source="gw", agent_id="stranger"),
    ]

    (row,) = built(calls, registry=policy).table("coverage")

    assert (row["calls"], row["with_subject"]) == (4, 0.25)
    assert (row["expecting_subject"], row["with_expected_subject"]) == (2, 0.5)
    assert row["with_attestation"] == 0.25


def test_coverage_counts_revocations_that_meet_a_known_credential():
    events = [
        token_event(source="as", credential_id="known"),
        token_event(source="as", credential_id="known", op="revoke"),
        token_event(source="as", credential_id="stranger", op="revoke"),
        token_event(source="as", op="revoke", revoke_target="client"),
    ]

    (row,) = built(events).table("coverage")

    assert (row["revocations"], row["revocations_linked"]) == (2, 0.5)


def test_coverage_counts_what_came_later_than_is_allowed():
    events = [
        tool_call(source="gw", event_time=NOW - timedelta(seconds=120)),
        tool_call(source="gw", event_time=NOW - timedelta(seconds=121)),
    ]

    (row,) = built(events).table("coverage")

    assert row["late"] == 0.5


def test_calls_that_stayed_inside_or_are_told_twice_do_not_count_as_routed():
    hour = {"source": "rt", "event_time": NOW - timedelta(minutes=30)}
    calls = [
        tool_call(**hour, phase="pre"),
        tool_call(**hour, phase="post"),
        tool_call(**hour, outcome="denied"),
        tool_call(**hour, tool_protocol="mcp_stdio"),
        tool_call(**hour),
    ]

    (row,) = built(calls).table("source_hours")

    assert (row["events"], row["calls"]) == (5, 5)
    assert (row["routed_single"], row["routed_pre"], row["routed_post"]) == (1, 1, 1)


def test_what_retention_takes_leaves_its_edges_and_breaks_no_chain(tmp_path):
    lake = open_lake(str(tmp_path / "lake"), create=True)
    registry = load_registry(None)
    days = timedelta(days=3)
    named = {"role": "subject", "issuer": "https://idp.test", "kind": "jti"}
    old = [
        issue("root", 0, event_time=NOW - days, auth_time=NOW - days),
        issue("old", 0, event_time=NOW - days, op="exchange", parents=[named | {"id": "root"}]),
    ]
    new = [
        issue("child", 0, op="exchange", actor_id="coder", parents=[named | {"id": "root"}]),
        use("child", 1),
    ]
    write_events(lake, [*old, *new])
    build_chains(lake, registry, NOW)
    with lake.connect() as con:
        edges = set(con.execute("SELECT child_key, parent_key FROM hops").fetchall())
    lake.expire((NOW - timedelta(days=1)).date())

    # Twice: what the first rebuild remembers, the second must not forget.
    for _ in range(2):
        build_chains(lake, registry, NOW, full=True)
        with lake.connect() as con:
            told = con.execute(
                "SELECT id, status, issued_at FROM chains JOIN credentials USING (credential_key)"
            ).fetchall()
            kept = set(con.execute("SELECT child_key, parent_key FROM hops").fetchall())

        assert {name: status for name, status, _ in told} == {
            "root": "retention_truncated",
            "child": "retention_truncated",
            "old": "complete",
        }
        assert kept == edges
