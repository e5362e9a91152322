"""All 68 log types that a detection vendor published, through `auto` at once."""

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from pipeline.ingest.recognise import AUTO
from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources import adapter_names, load_adapter
from pipeline.lake import open_lake
from tests.factories import NOW

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FOLDER = DATA / "panther-public"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the sample data is not here")

# What is not recognised of these types is a fragment: a rule's test needs a member or two.
RECOGNISED = {
    "AWS.CloudTrail": {"cloudtrail": 238},
    "Amazon.EKS.Audit": {"kubernetes_audit": 46, "gcp_audit": 18},
    "GCP.AuditLog": {"gcp_audit": 71},
    "Okta.SystemLog": {"okta_system_log": 35},
    "Azure.Audit": {"entra_signin": 19},
    # Published under another name than they bear.
    "OneLogin.Events": {"cloudtrail": 1},
    "AWS.VPCDns": {"ocsf": 2},
    "Atlassian.Audit": {"okta_system_log": 3},
}


@pytest.fixture(scope="module")
def cases():
    with gzip.open(FOLDER / "events.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def truth():
    return json.loads(gzip.decompress((DATA / "truth" / "panther-public.json.gz").read_bytes()))


def test_the_data_is_what_its_truth_file_counts(cases, truth):
    types = Counter((case["log_types"] or ["?"])[0] for case in cases)

    assert (
        truth["totals"]
        | {
            "tests": len(cases),
            "match": sum(bool(case["rule_should_match"]) for case in cases),
            "log_not_an_object": sum(not isinstance(case["log"], dict) for case in cases),
        }
        == truth["totals"]
    )
    assert {name: found["tests"] for name, found in truth["by_log_type"].items()} == dict(types)


def test_each_record_is_of_one_source_at_most_and_no_other_vendor_s_is_taken(cases):
    found = defaultdict(Counter)
    for case in cases:
        takers = [name for name in adapter_names() if load_adapter(name).recognises(case["log"])]
        assert len(takers) <= 1
        found[(case["log_types"] or ["?"])[0]].update(takers)

    assert {name: dict(takers) for name, takers in found.items() if takers} == RECOGNISED


def test_every_record_ends_as_rows_or_as_a_dead_letter(cases, tmp_path):
    file = tmp_path / "panther.jsonl"
    file.write_text("\n".join(json.dumps(case["log"]) for case in cases))
    lake = open_lake(str(tmp_path / "lake"), create=True)

    report = ingest_files([file], adapter=AUTO, sink=lake, now=NOW)

    with lake.connect(comments=False) as con:
        stored = {
            row[0]
            for table in ("tool_calls", "token_events", "secret_events", "dead_letters")
            for row in con.execute(f"SELECT kafka_offset FROM {table}").fetchall()
        }
    assert report.records == len(cases)
    logs = [json.dumps(case["log"], sort_keys=True) for case in cases]
    # A view shows an event once: the publisher gives some records to several rules.
    shown = {logs[offset] for offset in stored}
    unseen = [log for log in logs if log not in shown]
    assert len(unseen) == sum(report.tally.skipped.values()) == 2
