"""How complete the data behind a finding is, and silence as a stream shows it."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from pipeline.chains import build_chains
from pipeline.detections.coverage import coverage_notes
from pipeline.detections.ledger import Window
from pipeline.detections.rule import read_rules
from pipeline.detections.run import run_detections
from pipeline.lake import open_lake
from pipeline.lake.tables import tables
from pipeline.registry import load_registry
from tests.factories import NOW, token_event, tool_call, write_events


def ago(minutes):
    return NOW - timedelta(minutes=minutes)


STREAMS = [
    *(tool_call(source="gw", event_time=ago(m), subject_id="alice") for m in (70, 5, 1)),
    tool_call(
        source="gw",
        event_time=ago(60),
        credential_issuer="https://idp.test",
        credential_kind="jti",
        credential_id="t",
    ),
    token_event(source="as", event_time=ago(300), credential_id="t", auth_time=ago(300)),
    *(token_event(source="as", event_time=ago(m)) for m in range(290, 70, -10)),
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    (folder / "sources.yaml").write_text("sources:\n  as: {expected_interval_s: 600}\n")
    return load_registry(folder)


@pytest.fixture(scope="module")
def lake(tmp_path_factory, policy):
    """Streams: the gateway speaks until now, the authorization server until 80 minutes ago."""
    made = open_lake(str(tmp_path_factory.mktemp("lake") / "lake"), create=True)
    write_events(made, STREAMS)
    build_chains(made, policy, NOW)
    return made


def findings(con, *rows):
    uids = dict(con.execute("SELECT event_time, event_uid FROM tool_calls").fetchall())
    filled = [
        {
            "tenant_id": "default",
            "event_uids": [uids[time] for time in row.pop("times", [])],
            "first_seen": ago(70),
            "last_seen": ago(1),
        }
        | row
        for row in rows
    ]
    return pa.Table.from_pylist(filled, schema=tables()["findings"].schema)


@pytest.fixture(scope="module")
def con(lake):
    return lake.connect(comments=False)


def test_a_note_tells_the_shares_of_the_evidence_s_source_and_who_is_silent(con):
    (note,) = coverage_notes(con, findings(con, {"times": [ago(60)]}), as_of=NOW).to_pylist()

    assert note == (
        "gw 2026-11-20: 25 % of calls linked, 25 % with their chain to its end,"
        " 75 % with a subject; as is silent since 2026-11-20 10:40"
    )


def test_each_finding_has_the_note_of_its_own_time_and_tenant_in_its_own_place(con):
    found = findings(
        con,
        {"tenant_id": "other"},
        {"times": [ago(1)], "first_seen": ago(200), "last_seen": ago(100)},
        {"coverage_note": "said by the rule", "tenant_id": "other"},
    )

    notes = coverage_notes(con, found, as_of=NOW).to_pylist()

    assert notes[0] is None
    assert notes[1].startswith("gw 2026-11-20")
    assert "silent" not in notes[1]
    assert notes[2] == "said by the rule"


def test_no_findings_have_no_notes(con):
    assert coverage_notes(con, findings(con), as_of=NOW).to_pylist() == []


@pytest.mark.slow
def test_a_silent_stream_is_one_finding_that_changes_only_when_records_come(tmp_path, policy):
    lake = open_lake(str(tmp_path / "lake"), create=True)
    rules = read_rules(only=["BT-07"])[0]

    def told(now):
        build_chains(lake, policy, now)
        report = run_detections(lake, policy, rules=rules, window=Window(), now=now)
        with lake.connect(comments=False) as reader:
            query = "SELECT status, title, first_seen, last_seen FROM findings"
            return report.changes["change"].to_pylist(), reader.execute(query).fetchall()

    write_events(lake, STREAMS)
    assert told(ago(79)) == ([], [])

    changes, rows = told(NOW)
    assert changes == ["created"]
    assert rows == [
        ("open", f"as has been silent since {ago(80):%Y-%m-%d %H:%M:%S}+00", ago(80), ago(80))
    ]

    assert told(NOW + timedelta(minutes=5))[0] == []

    write_events(lake, [token_event(source="as", event_time=ago(-6))])
    changes, rows = told(NOW + timedelta(minutes=8))
    assert changes == ["updated"]
    assert rows == [("open", "as was silent for 86 min", ago(80), ago(-6))]

    write_events(lake, [token_event(source="as", event_time=ago(m)) for m in range(70, -1, -10)])
    changes, rows = told(NOW + timedelta(minutes=9))
    assert changes == ["resolved"]
    assert rows[0][0] == "resolved"
