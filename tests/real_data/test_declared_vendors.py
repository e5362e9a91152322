"""Audit logs of five vendors through the declared adapters that ship as examples."""

import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from pipeline.events.redact import redact_batch
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import Context, load_adapter

FILE = Path(__file__).parents[2].parent / "shared/data/panther-public/events.jsonl.gz"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the sample data is not here")

EXAMPLES = sample_path("ocsf").parent / "declared"
VENDORS = {
    "anthropic_activity": "Anthropic.Activity",
    "auth0_events": "Auth0.Events",
    "databricks_audit": "Databricks.Audit",
    "github_audit": "GitHub.Audit",
    "teleport_audit": "Gravitational.TeleportAudit",
}
GITHUB_TIMES = ("@timestamp", "created_at", "at_sign_timestamp", "p_event_time")
# Eight digits run together where seconds and their fraction should stand.
NO_TIME = "2024-12-17 00:00:00000000"


@cache
def published():
    found = {}
    for line in gzip.decompress(FILE.read_bytes()).splitlines():
        test = json.loads(line)
        if len(test["log_types"] or ()) == 1:
            found.setdefault(test["log_types"][0], []).append(test["log"])
    return found


@cache
def adapted(name):
    values = [json.dumps(record).encode() for record in published()[VENDORS[name]]]
    return load_adapter(str(EXAMPLES / f"{name}.yaml")).adapt(values, Context())


def rows(name):
    return [row for batch in adapted(name).batches for row in batch.batch.to_pylist()]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("anthropic_activity", 19),
        ("auth0_events", 40),
        ("databricks_audit", 71),
        ("teleport_audit", 15),
    ],
)
def test_every_record_becomes_one_call(name, count):
    assert len(published()[VENDORS[name]]) == count
    assert len(rows(name)) == count
    assert adapted(name).refusals == []
    assert not adapted(name).skipped


def test_of_github_only_records_without_a_time_are_refused():
    records = published()["GitHub.Audit"]
    timeless = {
        at
        for at, record in enumerate(records)
        if {record.get(name) for name in GITHUB_TIMES} <= {None, NO_TIME}
    }

    assert len(records) == 53
    assert {item.row for item in adapted("github_audit").refusals} == timeless
    assert Counter(item.reason for item in adapted("github_audit").refusals) == {
        "event_time is missing": 18,
        "event_time is no time that can be read": 4,
    }
    assert len(rows("github_audit")) == 53 - len(timeless) == 31


def test_what_the_vendors_say_of_outcome_and_kind_of_action_is_kept():
    databricks = Counter(row["outcome"] for row in rows("databricks_audit"))
    anthropic = Counter(row["action_class"] for row in rows("anthropic_activity"))

    assert databricks == {"unknown": 31, "success": 23, "denied": 17}
    assert anthropic == {"admin_iam": 16, "external_send": 2, "write": 1}
    assert {row["outcome"] for row in rows("teleport_audit")} == {"success", "unknown"}


def test_auth0_names_the_token_of_a_management_call_and_digests_bodies():
    called = [row for row in rows("auth0_events") if row["credential_id"]]

    assert len(called) >= 30
    assert {row["credential_kind"] for row in called} == {"jti"}
    assert all(len(row["args_hash"]) == 64 for row in called if row["args_hash"])
    assert any(row["args_hash"] for row in called)


def test_no_command_line_and_no_request_parameter_is_stored():
    stored = json.dumps(
        [redact_batch(b.batch)[0].to_pylist() for n in VENDORS for b in adapted(n).batches],
        default=str,
    )
    arguments = [
        text
        for record in published()["Gravitational.TeleportAudit"]
        for text in record.get("argv", ())
        if len(text) > 4 and not text.isdigit()
    ]
    hashes = [
        record["requestParams"]["tokenHash"]
        for record in published()["Databricks.Audit"]
        if "tokenHash" in (record.get("requestParams") or {})
    ]

    assert arguments
    assert hashes
    assert [text for text in (*arguments, *hashes) if text in stored] == []


def test_no_example_recognises_another_vendor_s_records():
    adapters = {name: load_adapter(str(EXAMPLES / f"{name}.yaml")) for name in VENDORS}

    taken = {
        (name, kind)
        for name, adapter in adapters.items()
        for kind, records in published().items()
        if any(map(adapter.recognises, records))
    }

    assert taken == set(VENDORS.items())
