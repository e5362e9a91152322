import json
from datetime import UTC, datetime

import pytest

from pipeline.alerts.alert import MAX_BODY_BYTES, Told, make_alert, news, trial_alert

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def finding(**over):
    return {
        "finding_id": "f1",
        "rule_id": "scope_widened",
        "rule_code": "PC-01",
        "rule_version": "1.0.0",
        "family": "PC",
        "severity": 4,
        "confidence": 0.98,
        "tenant_id": "default",
        "title": "deploy-bot obtained deploy:*",
        "entity": "deploy-bot",
        "status": "open",
        "status_reason": None,
        "first_seen": NOW,
        "last_seen": NOW,
        "event_uids": ["a" * 64, "b" * 64],
        "chain_path": ["alice", "planner", "deploy-bot"],
        "credential_key": "k'1",
        "summary": '{"scope": "deploy:*"}',
        "coverage_note": None,
        "route_owner": "team-a",
        "policy_version": "none",
        "updated_at": NOW,
    } | over


def data(**over):
    return json.loads(make_alert(finding(**over), "finding.created", [], None).body)["data"]


CREATED, UPDATED = Told("finding.created", 3), Told("finding.updated", 4)
RESOLVED = Told("finding.resolved", 4)


@pytest.mark.parametrize(
    ("status", "severity", "told", "expected"),
    [
        ("open", 3, [], "finding.created"),
        ("open", 2, [], None),
        ("open", 3, [CREATED], None),
        ("open", 4, [CREATED], "finding.updated"),
        ("open", 4, [CREATED, UPDATED], None),
        ("open", 3, [CREATED, UPDATED], None),
        ("refuted", 4, [CREATED], "finding.resolved"),
        ("resolved", 1, [CREATED, UPDATED], "finding.resolved"),
        ("resolved", 4, [], None),
        ("suppressed", 4, [CREATED, RESOLVED], None),
        ("open", 4, [CREATED, RESOLVED], "finding.created"),
        ("open", 4, [UPDATED, RESOLVED, CREATED], "finding.updated"),
        ("open", 3, [UPDATED, RESOLVED, CREATED], None),
    ],
)
def test_a_sink_is_told_only_news(status, severity, told, expected):
    assert news(finding(status=status, severity=severity), told, 3) == expected


def test_the_same_news_has_the_same_id_and_other_news_another():
    def alert_id(kind, severity, told=()):
        return make_alert(finding(severity=severity), kind, told, None).alert_id

    ids = [
        alert_id("finding.created", 3),
        alert_id("finding.updated", 4, [CREATED]),
        alert_id("finding.created", 3, [CREATED, RESOLVED]),
    ]

    assert alert_id("finding.created", 3) == ids[0]
    assert len(set(ids)) == 3


def test_the_body_is_the_standard_envelope():
    body = json.loads(make_alert(finding(), "finding.created", [], "alice -> planner").body)

    assert set(body) == {"type", "timestamp", "data"}
    assert body["type"] == "finding.created"
    assert body["timestamp"] == "2026-11-20T12:00:00.000Z"
    assert body["data"]["chain_text"] == "alice -> planner"
    assert body["data"]["severity_name"] == "high"
    assert body["data"]["summary"] == {"scope": "deploy:*"}


def test_the_queries_quote_what_they_name():
    queries = data()["query"]

    assert queries["chain"] == "SELECT * FROM chains WHERE credential_key = 'k''1'"


def test_control_and_bidirectional_characters_are_taken_out():
    hostile = "pay\u202egnp.exe\x1b[2J\x00\u200b\n<!channel>\u2066"

    told = data(
        title=hostile, entity=hostile, chain_path=[hostile], summary=json.dumps({hostile: hostile})
    )

    assert all(char.isprintable() for char in json.dumps(told, ensure_ascii=False))


def test_a_chain_text_keeps_its_lines_and_loses_its_escapes():
    body = make_alert(finding(), "finding.created", [], "a\n  \x1b[31mb\u202e").body

    assert json.loads(body)["data"]["chain_text"] == "a\n   [31mb "


def test_a_huge_finding_stays_under_twenty_kilobytes_and_says_so():
    told = make_alert(
        finding(
            title="ü" * 100_000,
            event_uids=["e" * 64] * 10_000,
            chain_path=["p" * 900] * 200,
            summary=json.dumps({"k": ["v" * 900] * 100}),
        ),
        "finding.created",
        [],
        "line\n" * 50_000,
    )

    assert len(told.body.encode()) <= MAX_BODY_BYTES
    body = json.loads(told.body)["data"]
    assert body["shortened"] is True
    assert body["event_count"] == 10_000
    assert body["finding_id"] == "f1"


def test_a_summary_that_is_not_json_is_left_out():
    assert data(summary="{not json")["summary"] == {}


def test_a_test_alert_says_that_it_is_one():
    alert = trial_alert("soc", NOW)

    assert json.loads(alert.body)["type"] == "test"
    assert "Test alert" in alert.body
