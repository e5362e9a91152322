"""CloudTrail records of two other publishers: documentation examples and rule tests."""

import gzip
import json
from pathlib import Path

import pytest

from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources import Context, load_adapter
from pipeline.lake import open_lake
from tests.factories import NOW

DATA = Path(__file__).parents[2].parent / "shared" / "data"
DOCS = DATA / "awsdocs-sts-examples"
PANTHER = DATA / "panther-public" / "events.jsonl.gz"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the sample data is not here")


def docs_truth():
    raw = (DATA / "truth" / "awsdocs-sts-examples.json.gz").read_bytes()
    return json.loads(gzip.decompress(raw))["files"]


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    lake = open_lake(str(tmp_path_factory.mktemp("docs") / "lake"), create=True)
    ingest_files(sorted(DOCS.glob("*.json.gz")), adapter="cloudtrail", sink=lake, now=NOW)
    return lake.connect()


def names(con, table):
    found = con.execute(f"SELECT kafka_topic FROM {table} ORDER BY 1").fetchall()  # fixed names
    return [topic.removeprefix("file:").partition("#")[0].removesuffix(".gz") for (topic,) in found]


def test_valid_examples_are_calls_and_invalid_ones_dead_letters(docs):
    known = docs_truth()
    # Example 11 is the head of a record: it has an identity, but neither time nor name.
    whole = [name for name, item in known.items() if item["valid_json"] and item["event"]]

    assert names(docs, "tool_calls") == sorted(whole)
    assert names(docs, "dead_letters") == sorted(set(known) - set(whole))


def test_issuances_have_the_calling_key_as_parent_unless_it_is_the_key_itself(docs):
    found = docs.execute("SELECT credential_id, parents[1].id FROM token_events").fetchall()

    issued = [item for item in docs_truth().values() if item.get("issued_key")]
    expected = {
        (
            item["issued_key"],
            item["parent_key"] if item["parent_key"] != item["issued_key"] else None,
        )
        for item in issued
    }
    assert set(found) == expected


def test_one_call_seen_by_two_accounts_bears_one_call_id(docs):
    found = docs.execute("""
        SELECT count(*), count(DISTINCT source) FROM tool_calls
        GROUP BY call_id HAVING count(*) > 1
    """).fetchall()

    assert found == [(2, 2)]


def test_a_chained_role_keeps_its_source_identity(docs):
    found = docs.execute("""
        SELECT subject_id, parents[1].id, credential_id FROM token_events
        WHERE ext['identityType'] = 'AssumedRole'
    """).fetchall()

    assert found == [("JohnDoe", "AKIAI44QH8DHBEXAMPLE", "ASIAWHOJDLGPOEXAMPLE")]


def panther_logs():
    with gzip.open(PANTHER) as lines:
        tests = [json.loads(line) for line in lines]
    return [test["log"] for test in tests if "AWS.CloudTrail" in (test["log_types"] or [])]


def adapt(logs):
    values = [json.dumps(log).encode() for log in logs]
    return load_adapter("cloudtrail").adapt(values, Context())


def test_every_rule_test_record_is_one_call_or_one_refusal_with_a_reason():
    logs = panther_logs()
    adapted = load_adapter("cloudtrail").adapt(
        [json.dumps(log).encode() for log in logs], Context()
    )
    [calls] = [batch.rows.tolist() for batch in adapted.batches if batch.family == "tool_call"]
    refused = [refusal.row for refusal in adapted.refusals]

    assert sorted(calls + refused) == list(range(len(logs)))
    assert all(refusal.reason and refusal.stage for refusal in adapted.refusals)
    readable = [row for row, log in enumerate(logs) if str(log.get("eventTime"))[:2] == "20"]
    assert sorted(calls) == readable


def test_different_records_under_one_placeholder_id_stay_apart():
    logs = panther_logs()
    adapted = load_adapter("cloudtrail").adapt(
        [json.dumps(log).encode() for log in logs], Context()
    )
    [calls] = [batch for batch in adapted.batches if batch.family == "tool_call"]
    distinct = {json.dumps(logs[row], sort_keys=True) for row in calls.rows.tolist()}

    assert len(set(calls.event_uids.to_pylist())) == len(distinct)
