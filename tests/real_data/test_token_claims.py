"""Published token claims and gateway audit events, against the independent truth."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources import Context, load_adapter
from pipeline.lake import open_lake

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ACT, GATEWAY = DATA / "act-claims", DATA / "toolhive-mcp-audit"
pytestmark = pytest.mark.skipif(not ACT.is_dir(), reason="the sample data is not here")

RECEIVED = datetime(2026, 11, 1, tzinfo=UTC)


def content(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def truth(name):
    return content(DATA / "truth" / f"{name}.json.gz")


def rows_of(name, value, context):
    adapted = load_adapter(name).adapt([value], context)
    found = [row for batch in adapted.batches for row in batch.batch.to_pylist()]
    return found, adapted.refusals


def actors(row):
    return [actor["subject"] for actor in row["act_chain"]]


def test_every_case_of_the_act_claim_is_read_as_the_truth_says():
    value = gzip.decompress((ACT / "cases.json.gz").read_bytes())
    told = truth("act-claims")

    # Three of the cases bear no time at all: a file's own time stands for them.
    found, refusals = rows_of("jwt_claims", value, Context(received_at=RECEIVED))

    assert not refusals
    assert len(found) == told["totals"]["cases"] == 6
    assert max(len(row["act_chain"]) for row in found) == told["totals"]["max_depth"]
    read = {
        row["event_id"]: {
            "subject": row["subject_id"],
            "actors_current_first": actors(row),
            "delegation_order": [row["subject_id"], *reversed(actors(row))],
            "depth": len(actors(row)),
            "malformed": row["act_malformed_reason"] is not None,
        }
        for row in found
    }
    assert read == told["cases"]


def test_without_a_time_of_receipt_only_dated_cases_can_be_taken():
    value = gzip.decompress((ACT / "cases.json.gz").read_bytes())

    found, refusals = rows_of("jwt_claims", value, Context())

    assert [row["event_id"] for row in found] == ["rfc8693-4.1-delegation", "rfc8693-4.1-nested"]
    assert len(refusals) == 4
    assert {refusal.reason.partition(":")[0] for refusal in refusals} == {"names no time"}


def test_the_gateway_s_files_are_read_as_the_truth_says():
    told = truth("toolhive-mcp-audit")
    context = Context(received_at=RECEIVED)
    read = {}
    for path in sorted(GATEWAY.glob("*.json.gz")):
        value = gzip.decompress(path.read_bytes())
        is_event = load_adapter("toolhive").recognises(json.loads(value))
        (row,), refusals = rows_of("toolhive" if is_event else "jwt_claims", value, context)
        assert not refusals
        read[path.name.removesuffix(".gz")] = {
            "kind": "audit event" if is_event else "token claims",
            "id": row["event_id"] if is_event else None,
            "time": row["event_time"].isoformat().replace("+00:00", "Z") if is_event else None,
            "outcome": row["outcome"] if is_event else None,
            "tool": row.get("tool_name"),
            "subject": row["subject_id"],
            "chain_current_first": actors(row),
        }

    assert len(read) == told["totals"]["files"]
    assert read == told["files"]


def test_whole_folders_reach_the_tables_without_a_dead_letter_or_any_content(tmp_path):
    lake = open_lake(str(tmp_path / "lake"), create=True)
    events = sorted(GATEWAY.glob("0[01]-*.json.gz"))
    claims = [ACT / "cases.json.gz", *GATEWAY.glob("02-*.json.gz")]

    calls = ingest_files(events, adapter="toolhive", sink=lake, now=RECEIVED).rows
    tokens = ingest_files(claims, adapter="jwt_claims", sink=lake, now=RECEIVED).rows

    assert (calls["tool_calls"], calls["dead_letters"]) == (2, 0)
    assert (tokens["token_events"], tokens["dead_letters"]) == (7, 0)
    kept = str(lake.connect().sql("SELECT * FROM tool_calls").fetchall())
    assert "New York" not in kept
    assert "humidity" not in kept
