"""Okta, Entra and Google records that a detection vendor published with its rules."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.ingest.sources import Context, load_adapter

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FOLDER = DATA / "panther-public"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the sample data is not here")

SOURCES = {
    "Okta.SystemLog": "okta_system_log",
    "Azure.Audit": "entra_signin",
    "GCP.AuditLog": "gcp_audit",
}


@pytest.fixture(scope="module")
def cases():
    with gzip.open(FOLDER / "events.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


def of_type(cases, log_type):
    return [case["log"] for case in cases if case["log_types"] == [log_type]]


def adapted_of(cases, log_type):
    values = [json.dumps(record).encode() for record in of_type(cases, log_type)]
    return load_adapter(SOURCES[log_type]).adapt(values, Context())


def truth():
    return json.loads(gzip.decompress((DATA / "truth" / "panther-public.json.gz").read_bytes()))


# What cannot be taken says nothing that happened: fragments that a rule's test needs and no more.
BROKEN = {
    "Okta.SystemLog": {"published is missing or is no time": 1},
    "Azure.Audit": {},
    "GCP.AuditLog": {
        "protoPayload is missing": 6,
        "timestamp is missing or is no time": 2,
    },
}
ROWS = {
    "Okta.SystemLog": {"tool_call": 33, "token_event": 2, "secret_event": 2},
    "Azure.Audit": {"tool_call": 5, "token_event": 14},
    "GCP.AuditLog": {"tool_call": 69, "token_event": 4, "secret_event": 1},
}


@pytest.mark.parametrize("log_type", SOURCES)
def test_every_record_that_is_whole_is_taken(cases, log_type):
    records = of_type(cases, log_type)
    adapted = adapted_of(cases, log_type)

    rows = {
        family: sum(batch.batch.num_rows for batch in adapted.batches if batch.family == family)
        for family in ROWS[log_type]
    }
    assert len(records) == truth()["by_log_type"][log_type]["tests"]
    assert rows == ROWS[log_type]
    assert Counter(item.reason for item in adapted.refusals) == BROKEN[log_type]
    taken = {int(row) for batch in adapted.batches for row in batch.rows}
    refused = {item.row for item in adapted.refusals}
    assert sorted([*taken, *refused]) == list(range(len(records)))


@pytest.mark.parametrize("log_type", SOURCES)
def test_a_source_recognises_its_own_of_all_the_vendor_s_records(cases, log_type):
    source = load_adapter(SOURCES[log_type])

    found = [case for case in cases if source.recognises(case["log"])]

    strangers = [case["test_name"] for case in found if log_type not in (case["log_types"] or [])]
    missed = [record for record in of_type(cases, log_type) if not source.recognises(record)]
    assert strangers == []
    # The fragments without payload could be anybody's.
    assert len(missed) == (6 if log_type == "GCP.AuditLog" else 0)


def test_reuse_that_okta_detected_is_told_as_such(cases):
    (batch,) = [
        batch
        for batch in adapted_of(cases, "Okta.SystemLog").batches
        if batch.family == "token_event"
    ]

    ops = Counter(batch.batch.column("op").to_pylist())

    assert ops == {"reuse_detected": 1, "revoke": 1}


def test_failed_sign_ins_of_entra_are_those_with_an_error_code(cases):
    (batch,) = [
        batch for batch in adapted_of(cases, "Azure.Audit").batches if batch.family == "token_event"
    ]

    errors = Counter(batch.batch.column("error").to_pylist())

    assert errors == {None: 7, "7000215": 6, "50126": 1}


def test_denials_of_google_are_those_with_its_codes_or_without_a_grant(cases):
    records = of_type(cases, "GCP.AuditLog")
    (calls,) = [
        batch for batch in adapted_of(cases, "GCP.AuditLog").batches if batch.family == "tool_call"
    ]
    outcomes = dict(
        zip(calls.rows.tolist(), calls.batch.column("outcome").to_pylist(), strict=True)
    )

    denied = {row for row, outcome in outcomes.items() if outcome == "denied"}

    expected = set()
    for row, record in enumerate(records):
        payload = record.get("protoPayload") or {}
        code = (payload.get("status") or {}).get("code")
        grants = [item.get("granted") for item in payload.get("authorizationInfo") or []]
        if code in {7, 16} or (not code and False in grants and True not in grants):
            expected.add(row)
    assert denied == expected & outcomes.keys()
    assert len(denied) == 7
