"""Rules over a real lake: what is written, what a later run makes of it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from pipeline.chains import build_chains
from pipeline.detections.check import EPOCH, load_rules
from pipeline.detections.decide import Decision, decide
from pipeline.detections.ledger import Task, Window, alone, claim, run_id
from pipeline.detections.run import run_detections
from pipeline.detections.suppress import suppression_report
from pipeline.errors import LakeError, QueryError, RuleErrors
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.detections.folders import SQL, make_absence_rule, make_rule
from tests.factories import NOW, secret_event, token_event, tool_call, write_events

HOUR = timedelta(hours=1)


@pytest.fixture
def lake(tmp_path):
    return open_lake(str(tmp_path / "lake"), create=True)


def denied(agent="a", **over):
    return tool_call(outcome="denied", agent_id=agent, **over)


def detect(lake, *rules, now=NOW, registry=None, **over):
    over.setdefault("window", Window())
    return run_detections(lake, load_registry(registry), rules=rules, now=now, **over)


def rows(lake, query):
    with lake.connect(comments=False) as con:
        return con.execute(query).fetchall()


def states(lake):
    return rows(lake, "SELECT entity, status, status_reason FROM findings ORDER BY entity")


def history(lake):
    return rows(lake, "SELECT change, reason FROM finding_history ORDER BY changed_at, change")


def test_a_finding_is_written_with_its_evidence_and_its_rule(lake, tmp_path):
    write_events(lake, [denied(), denied(), tool_call()])

    report = detect(lake, make_rule(tmp_path))

    (finding,) = report.findings.to_pylist()
    assert (finding["rule_id"], finding["rule_code"], finding["family"]) == (
        "denied",
        "GO-01",
        "GO",
    )
    assert (finding["status"], finding["policy_version"]) == ("open", "none")
    assert len(finding["event_uids"]) == 2
    assert finding["detected_at"] == NOW
    assert rows(lake, "SELECT finding_id FROM findings") == [(finding["finding_id"],)]


def test_a_second_run_changes_nothing_and_adds_no_history(lake, tmp_path):
    write_events(lake, [denied()])
    rule = make_rule(tmp_path)
    detect(lake, rule)
    before = rows(lake, "SELECT * FROM findings")

    again = detect(lake, rule, now=NOW + HOUR)

    assert again.changes.num_rows == 0
    assert again.findings.num_rows == 1
    assert rows(lake, "SELECT * FROM findings") == before
    assert history(lake) == [("created", "created")]


def test_more_evidence_updates_the_finding_and_keeps_when_it_was_first_detected(lake, tmp_path):
    rule = make_rule(tmp_path)
    write_events(lake, [denied()])
    detect(lake, rule)
    write_events(lake, [denied()])

    detect(lake, rule, now=NOW + HOUR)

    assert rows(lake, "SELECT len(event_uids), detected_at, updated_at FROM findings") == [
        (2, NOW, NOW + HOUR)
    ]
    assert history(lake) == [("created", "created"), ("updated", "updated")]


def test_a_crash_between_history_and_findings_leaves_one_history_row(lake, tmp_path):
    rule = make_rule(tmp_path)
    write_events(lake, [denied()])
    merge = lake.merge

    def crash(table, found):
        if table == "findings":
            raise LakeError("the disk went away")
        merge(table, found)

    lake.merge = crash
    with pytest.raises(LakeError):
        detect(lake, rule)
    lake.merge = merge

    detect(lake, rule, now=NOW + HOUR)

    assert history(lake) == [("created", "created")]
    assert states(lake) == [("a", "open", None)]


def test_a_failing_rule_is_recorded_and_the_others_run(lake, tmp_path):
    write_events(lake, [denied()])
    broken = SQL.replace("agent_id AS entity", "CAST(agent_id AS INTEGER)::VARCHAR AS entity")
    bad = make_rule(tmp_path, "bad", sql=broken)

    report = detect(lake, bad, make_rule(tmp_path, "good"))

    assert rows(lake, "SELECT rule_id, state, error IS NOT NULL FROM runs ORDER BY rule_id") == [
        ("bad", "failed", True),
        ("good", "done", False),
    ]
    assert report.findings["rule_id"].to_pylist() == ["good"]
    with pytest.raises(RuleErrors, match=r"bad/rule\.sql:4") as caught:
        report.raise_failed()
    assert caught.value.exit_code == 3


def test_a_failing_rule_refutes_nothing(lake, tmp_path):
    write_events(lake, [denied()])
    detect(lake, make_rule(tmp_path))
    broken = SQL.replace("agent_id AS entity", "CAST(agent_id AS INTEGER)::VARCHAR AS entity")

    detect(lake, make_rule(tmp_path, sql=broken), now=NOW + HOUR)

    assert states(lake) == [("a", "open", None)]


def test_the_ledger_says_how_much_was_examined(lake, tmp_path):
    write_events(lake, [denied(), tool_call(), tool_call()])
    rule = make_rule(tmp_path)
    (rule.folder / "count.sql").write_text("SELECT count(*) FROM tool_calls")

    detect(lake, make_rule(tmp_path))
    counted = make_rule(tmp_path)
    counted.sql["count.sql"] = "SELECT count(*) FROM tool_calls"
    detect(lake, counted)

    assert rows(lake, "SELECT rows_read, findings, state, attempts FROM runs") == [
        (3, 1, "done", 2)
    ]


def late_issue(lake, agent):
    write_events(lake, [token_event(subject_id=agent)])


def test_a_finding_that_late_evidence_refutes_is_closed_with_that_reason(lake, tmp_path):
    rule = make_absence_rule(tmp_path)
    write_events(lake, [tool_call(agent_id="a", source="s"), token_event(source="s")])
    build_chains(lake, load_registry(None), NOW + HOUR)
    # Streaming sources: the newest event less the lateness is the watermark.
    write_events(lake, [tool_call(agent_id="b", source="s", event_time=NOW.isoformat())])
    write_events(lake, [token_event(subject_id="b", source="s", event_time=NOW.isoformat())])
    build_chains(lake, load_registry(None), NOW + HOUR)
    detect(lake, rule, now=NOW + HOUR)
    assert states(lake) == [("a", "open", None)]
    late_issue(lake, "a")

    detect(lake, rule, now=NOW + 2 * HOUR)

    assert states(lake) == [("a", "refuted", "refuted_by_late_evidence")]
    assert history(lake) == [("created", "created"), ("refuted", "refuted_by_late_evidence")]


def test_an_absence_rule_is_silent_before_the_watermark_of_its_sources(lake, tmp_path):
    rule = make_absence_rule(tmp_path)
    write_events(
        lake,
        [
            tool_call(agent_id="a", source="gateway"),
            token_event(source="idp", event_time=(NOW - 2 * HOUR).isoformat()),
        ],
    )
    build_chains(lake, load_registry(None), NOW)
    early = detect(lake, rule)
    late = token_event(source="idp", event_time=NOW.isoformat())
    write_events(lake, [late])
    build_chains(lake, load_registry(None), NOW + HOUR)

    after = detect(lake, rule, now=NOW + HOUR)

    assert early.findings.num_rows == 0
    assert after.findings["entity"].to_pylist() == ["a"]


def test_a_closed_window_whose_sources_are_late_waits_and_is_run_again(lake, tmp_path):
    rule = make_absence_rule(tmp_path)
    window = Window(NOW - 2 * HOUR, NOW)
    write_events(lake, [tool_call(agent_id="a", source="gateway"), token_event(source="idp")])
    build_chains(lake, load_registry(None), NOW)
    detect(lake, rule, window=window, again=False)
    waiting = rows(lake, "SELECT state FROM runs")
    write_events(lake, [token_event(source="idp", event_time=(NOW + HOUR).isoformat())])
    build_chains(lake, load_registry(None), NOW + HOUR)

    report = detect(lake, rule, window=window, again=False, now=NOW + HOUR)

    assert waiting == [("waiting",)]
    assert rows(lake, "SELECT state, attempts FROM runs") == [("done", 2)]
    assert report.findings["entity"].to_pylist() == ["a"]


def test_a_finding_that_comes_back_is_reopened(lake, tmp_path):
    write_events(lake, [denied()])
    rule = make_rule(tmp_path)
    detect(lake, rule)
    blind = make_rule(tmp_path, sql=SQL.replace("'denied'", "'timeout'"))
    detect(lake, blind, now=NOW + HOUR)

    detect(lake, rule, now=NOW + 2 * HOUR)

    assert states(lake) == [("a", "open", "found_again")]
    assert history(lake) == [
        ("created", "created"),
        ("refuted", "refuted_by_late_evidence"),
        ("reopened", "found_again"),
    ]


@pytest.mark.parametrize(
    ("over", "status", "reason"),
    [
        ({"when_gone": '"resolved"'}, "resolved", "condition_ended"),
        ({"version": '"1.1.0"'}, "refuted", "rule_changed"),
    ],
)
def test_why_a_finding_is_gone_is_said(lake, tmp_path, over, status, reason):
    write_events(lake, [denied()])
    detect(lake, make_rule(tmp_path))

    blind = make_rule(tmp_path, sql=SQL.replace("'denied'", "'timeout'"), **over)
    detect(lake, blind, now=NOW + HOUR)

    assert states(lake) == [("a", status, reason)]


def test_a_finding_outside_the_window_is_left_alone(lake, tmp_path):
    write_events(lake, [denied()])
    detect(lake, make_rule(tmp_path))
    blind = make_rule(tmp_path, sql=SQL.replace("'denied'", "'timeout'"))

    detect(lake, blind, window=Window(NOW, NOW + HOUR), now=NOW + HOUR)
    detect(lake, blind, window=Window(EPOCH, NOW - HOUR), now=NOW + HOUR)

    assert states(lake) == [("a", "open", None)]


def test_a_finding_that_moved_past_the_window_is_not_refuted(lake, tmp_path):
    rule = make_rule(tmp_path)
    write_events(lake, [denied()])
    detect(lake, rule)
    write_events(lake, [denied(event_time=(NOW + HOUR).isoformat())])

    detect(lake, rule, window=Window(EPOCH, NOW), now=NOW + 2 * HOUR)

    assert states(lake) == [("a", "open", None)]


def test_a_look_at_an_earlier_moment_does_not_undo_a_later_one(lake, tmp_path):
    write_events(lake, [denied()])
    detect(lake, make_rule(tmp_path))
    blind = make_rule(tmp_path, sql=SQL.replace("'denied'", "'timeout'"))

    detect(lake, blind, now=NOW - timedelta(minutes=1))

    assert states(lake) == [("a", "open", None)]


def test_evidence_that_left_by_retention_refutes_nothing(lake, tmp_path):
    gone = SQL.replace("list(event_uid ORDER BY event_uid)", "['f' || agent_id]")
    write_events(lake, [denied()])
    detect(lake, make_rule(tmp_path, sql=gone))
    blind = make_rule(tmp_path, sql=SQL.replace("'denied'", "'timeout'"))

    detect(lake, blind, now=NOW + HOUR)

    assert states(lake) == [("a", "open", None)]


def decided(lake, change, at=NOW, until=None):
    (finding_id,) = rows(lake, "SELECT finding_id FROM findings")[0]
    return decide(lake, finding_id, Decision(change, "ann", "known", until), at)


def test_what_a_person_closed_stays_closed_without_newer_evidence(lake, tmp_path):
    rule = make_rule(tmp_path)
    write_events(lake, [denied()])
    detect(lake, rule)
    decided(lake, "closed")

    detect(lake, rule, now=NOW + HOUR)
    closed = states(lake)
    write_events(lake, [denied(event_time=NOW.isoformat())])
    detect(lake, rule, now=NOW + 2 * HOUR)

    assert closed == [("a", "resolved", "known")]
    assert states(lake) == [("a", "open", "newer_evidence")]
    assert rows(
        lake, "SELECT change, changed_by FROM finding_history ORDER BY changed_at, change"
    ) == [("closed", "ann"), ("created", None), ("reopened", None)]
    assert rows(lake, "SELECT decided_by FROM findings") == [(None,)]


def test_an_accepted_finding_opens_again_when_its_time_is_over(lake, tmp_path):
    """Even where a scheduler looks only at events far newer than its evidence."""
    rule = make_rule(tmp_path)
    write_events(lake, [denied()])
    detect(lake, rule)
    decided(lake, "accepted", until=NOW + 24 * HOUR)

    detect(lake, rule, now=NOW + HOUR)
    write_events(lake, [denied(event_time=NOW.isoformat())])
    detect(lake, rule, now=NOW + 2 * HOUR)
    within = rows(lake, "SELECT status, decided_by, len(event_uids) FROM findings")
    late = Window(NOW + 20 * HOUR, None)
    detect(lake, rule, now=NOW + 25 * HOUR, window=late)
    detect(lake, rule, now=NOW + 26 * HOUR, window=late)

    assert within == [("accepted", "ann", 2)]
    assert states(lake) == [("a", "open", "acceptance_expired")]
    assert history(lake) == [
        ("accepted", "known"),
        ("created", "created"),
        ("updated", "known"),
        ("reopened", "acceptance_expired"),
    ]


def test_an_accepted_finding_that_got_worse_opens_again(lake, tmp_path):
    write_events(lake, [denied()])
    detect(lake, make_rule(tmp_path, severity=2))
    decided(lake, "accepted", until=NOW + 24 * HOUR)

    detect(lake, make_rule(tmp_path, severity=1), now=NOW + HOUR)
    milder = states(lake)
    detect(lake, make_rule(tmp_path, severity=3), now=NOW + 2 * HOUR)

    assert milder == [("a", "accepted", "known")]
    assert states(lake) == [("a", "open", "severity_rose")]


def test_an_acceptance_outlives_a_time_in_which_the_finding_was_gone(lake, tmp_path):
    rule = make_rule(tmp_path)
    write_events(lake, [denied()])
    detect(lake, rule)
    decided(lake, "accepted", until=NOW + 24 * HOUR)
    blind = make_rule(tmp_path / "blind", sql=SQL.replace("'denied'", "'timeout'"))

    detect(lake, blind, now=NOW + HOUR)
    gone = states(lake)
    detect(lake, rule, now=NOW + 2 * HOUR)

    assert gone == [("a", "refuted", "refuted_by_late_evidence")]
    assert states(lake) == [("a", "accepted", "found_again")]


def test_a_decision_needs_a_finding_that_is_not_over_and_a_time_to_come(lake, tmp_path):
    write_events(lake, [denied()])
    detect(lake, make_rule(tmp_path))

    with pytest.raises(QueryError, match="in the future"):
        decided(lake, "accepted", until=NOW)
    decided(lake, "closed")
    with pytest.raises(QueryError, match="is resolved, not open"):
        decided(lake, "accepted", until=NOW + HOUR)


def test_a_crash_in_the_middle_of_a_decision_leaves_one_line_of_history(lake, tmp_path):
    write_events(lake, [denied()])
    detect(lake, make_rule(tmp_path))
    merge, lake.merge = lake.merge, lambda *_: (_ for _ in ()).throw(LakeError("gone"))
    with pytest.raises(LakeError):
        decided(lake, "closed")
    lake.merge = merge

    decided(lake, "closed", at=NOW + HOUR)

    assert [change for change, _ in history(lake)] == ["closed", "created"]


def report_of(lake, folder, now):
    with lake.connect(comments=False) as con:
        table = load_registry(folder).tables()["reg_suppressions"]
        return [
            (one["hidden_now"], one["hidden_ever"], one["last_hid_at"], one["problems"])
            for one in suppression_report(con, table, now)
        ]


def test_a_suppression_that_hides_nothing_new_for_90_days_is_reported(lake, tmp_path):
    (tmp_path / "suppressions.yaml").write_text(
        "suppressions: {s1: {rule: denied, predicate: {entity: a}, reason: noise, owner: ann,"
        " created_at: 2026-11-01, expires_at: 2027-04-01}}"
    )
    rule = make_rule(tmp_path / "rules")
    write_events(lake, [denied()])
    detect(lake, rule, registry=tmp_path)

    just_before = report_of(lake, tmp_path, NOW + timedelta(days=90) - HOUR)
    after = report_of(lake, tmp_path, NOW + timedelta(days=90))
    write_events(lake, [denied(event_time=(NOW + timedelta(days=90)).isoformat())])
    detect(lake, rule, registry=tmp_path, now=NOW + timedelta(days=91))

    assert [problems for *_, problems in just_before + after] == [
        [],
        ["hid nothing new for 90 days"],
    ]
    assert report_of(lake, tmp_path, NOW + timedelta(days=91))[0][3] == []


def test_a_suppressed_finding_is_stored_and_opens_when_the_suppression_ends(lake, tmp_path):
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "suppressions.yaml").write_text(
        "suppressions: {s1: {rule: denied, predicate: {entity: a}, reason: noise, owner: ann,"
        " created_at: 2026-11-01, expires_at: 2026-11-21}}"
    )
    rule = make_rule(tmp_path)
    write_events(lake, [denied(), denied("b")])
    detect(lake, rule, registry=tmp_path / "registry")
    hidden = states(lake)
    told = report_of(lake, tmp_path / "registry", NOW)

    # A scheduler that looks at newer events only: the end of the suppression counts.
    later = NOW + timedelta(days=2)
    detect(lake, rule, now=later, registry=tmp_path / "registry", window=Window(NOW, None))

    assert told == [(1, 1, NOW, ["expires soon, in 0 days"])]
    assert report_of(lake, tmp_path / "registry", later) == [(0, 1, NOW, ["expired"])]
    assert hidden == [("a", "suppressed", "s1: noise"), ("b", "open", None)]
    assert states(lake)[0] == ("a", "open", "suppression_ended")


def test_tenants_never_share_a_finding(lake, tmp_path):
    write_events(lake, [denied(tenant_id="t1"), denied(tenant_id="t2")])

    report = detect(lake, make_rule(tmp_path))

    assert sorted(report.findings["tenant_id"].to_pylist()) == ["t1", "t2"]
    assert [len(uids) for uids in report.findings["event_uids"].to_pylist()] == [1, 1]


def test_an_event_of_the_future_does_not_hide_a_finding(lake, tmp_path):
    write_events(lake, [denied(event_time=(NOW + timedelta(days=400)).isoformat())])

    assert detect(lake, make_rule(tmp_path)).findings.num_rows == 1


def test_two_schedulers_run_a_window_once(lake, tmp_path):
    write_events(lake, [denied()])
    rule = make_rule(tmp_path)
    reports = []

    def work():
        mine = open_lake(lake.uri)
        reports.append(detect(mine, rule, window=Window(EPOCH, NOW), again=False))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(len(report.skipped) for report in reports) == [0, 1, 1]
    assert rows(lake, "SELECT state, attempts FROM runs") == [("done", 1)]


def test_what_a_crashed_run_left_is_taken_over(lake, tmp_path):
    write_events(lake, [denied()])
    rule = make_rule(tmp_path)
    window = Window(EPOCH, NOW)
    claim(lake, [Task(rule, (window,), window)], again=False, started_at=NOW)
    left = rows(lake, "SELECT state FROM runs")

    detect(lake, rule, window=window, again=False)

    assert left == [("running",)]
    assert rows(lake, "SELECT state, attempts FROM runs") == [("done", 2)]


def test_on_an_object_store_a_held_lease_is_respected_until_it_lapses(lake, tmp_path):
    rule = make_rule(tmp_path)
    window = Window(EPOCH, NOW)
    claim(lake, [Task(rule, (window,), window)], again=False, started_at=NOW)
    lake.is_local = False

    held = claim(
        lake, [Task(rule, (window,), window)], again=False, started_at=NOW + timedelta(minutes=5)
    )
    lapsed = claim(lake, [Task(rule, (window,), window)], again=False, started_at=NOW + HOUR)

    assert held == []
    assert [one.rule.id for one in lapsed] == ["denied"]


def test_one_detection_at_a_time(lake):
    with alone(lake), pytest.raises(LakeError, match="held by"), alone(lake, wait_s=0):
        pass


def test_a_new_version_of_a_rule_runs_its_windows_anew(tmp_path):
    window = Window(EPOCH, NOW)

    old = run_id(make_rule(tmp_path), window)

    assert old != run_id(make_rule(tmp_path, version='"1.0.1"'), window)


def test_identities_show_last_activity_and_live_credentials(lake, tmp_path):
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "agents.yaml").write_text(
        "agents:\n"
        "  planner: {owner_iam: ann, aliases: [{subject: agent-a}]}\n"
        "  idle: {aliases: [{subject: nobody}]}\n"
    )
    issued = {"actor_id": "agent-a", "expires_at": (NOW + HOUR).isoformat()}
    ended = {"actor_id": "agent-a", "expires_at": (NOW - HOUR).isoformat()}
    seen = NOW - timedelta(minutes=5)
    write_events(
        lake,
        [tool_call(event_time=seen.isoformat()), token_event(**issued), token_event(**ended)],
    )
    build_chains(lake, load_registry(registry), NOW)

    detect(lake, registry=registry)

    query = "SELECT identity_id, owner_iam, last_activity_at, live_credentials FROM identities"
    assert rows(lake, query + " ORDER BY 1") == [
        ("idle", None, None, 0),
        ("planner", "ann", seen, 1),
    ]
    detect(lake)
    assert rows(lake, query) == []


def test_secret_events_are_evidence_too(lake, tmp_path):
    sql = """\
SELECT tenant_id, secret_id AS agent_id, secret_id AS entity, event_time AS first_seen,
    event_time AS last_seen, [event_uid] AS event_uids
FROM secret_events WHERE op <> $op
"""
    words = '[parameters.op]\ntype = "text"\ndefault = "{}"\nreason = "r"'
    write_events(lake, [secret_event()])
    tables = '["secret_events"]'
    detect(lake, make_rule(tmp_path, sql=sql, tables=tables, extra=words.format("read")))

    detect(
        lake,
        make_rule(tmp_path, sql=sql, tables=tables, extra=words.format("inventory")),
        now=NOW + HOUR,
    )

    assert [status for _, status, _ in states(lake)] == ["refuted"]


@pytest.mark.parametrize(("when_gone", "found"), [('"refuted"', 0), ('"resolved"', 1)])
def test_a_state_is_judged_as_of_now_whatever_the_window(lake, tmp_path, when_gone, found):
    write_events(lake, [denied()])
    rule = make_rule(tmp_path, when_gone=when_gone)

    report = detect(lake, rule, window=Window(NOW + HOUR), now=NOW + 2 * HOUR)

    assert report.findings.num_rows == found


def test_a_look_back_sees_the_secrets_that_worked_then(lake):
    day = timedelta(days=1)
    dates = {"created_at": NOW - 200 * day, "expires_at": NOW + 5 * day}
    write_events(lake, [secret_event(event_time=NOW - HOUR, **dates)])
    build_chains(lake, load_registry(None), NOW + 10 * day)

    report = detect(lake, *load_rules(only=["secret_rotation_overdue"]))

    assert report.findings["rule_code"].to_pylist() == ["LS-01"]
