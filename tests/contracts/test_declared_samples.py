"""The adapters that ship as declared examples, and the schema that editors check them by."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.ingest.declared import load_declared
from pipeline.ingest.declared_check import check_declared
from pipeline.ingest.declared_schema import adapter_schema
from pipeline.ingest.file_records import read_records
from pipeline.ingest.samples import sample_path
from tests.contracts.test_source_samples import SECRET, leaks, told, written

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((sample_path("ocsf").parent / "declared").glob("*.yaml"))
WORKED = EXAMPLES[0].with_name("acme_gateway.yaml")
SAMPLE = WORKED.with_suffix(".jsonl")
GOLDEN = Path(__file__).parent / "golden" / "declared" / "acme_gateway.json"
PUBLISHED = ROOT / "schemas" / "declared" / "adapter.schema.json"

each_example = pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)


def test_the_worked_example_becomes_what_was_reviewed(request):
    fresh = told(str(WORKED), list(read_records(SAMPLE, "events")))

    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(written(fresh), encoding="utf-8")

    assert fresh == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_nothing_of_the_worked_example_s_secrets_is_stored():
    assert SECRET in SAMPLE.read_text(encoding="utf-8")

    assert leaks(str(WORKED), list(read_records(SAMPLE, "events"))) == []


def test_the_check_of_the_worked_example_tells_what_became_of_it():
    report = check_declared(WORKED, [SAMPLE])

    assert (report.adapter, report.records) == ("acme_gateway", 12)
    assert report.rows == {"tool_call": 4, "token_event": 2, "secret_event": 2}
    assert report.skipped == {"heartbeat": 1, "metrics": 1}
    assert [(one.reason, one.first) for one in report.refused] == [
        ("agent_id is missing", "acme_gateway.jsonl: record 11"),
        ("holds no event of this source", "acme_gateway.jsonl: record 12"),
    ]
    assert report.never_filled == {}
    assert not report.ok


@each_example
def test_an_example_bears_its_file_s_name_and_is_loaded_without_a_fault(file):
    adapter = load_declared(str(file))

    assert adapter.name == file.stem
    assert adapter.declared.recognise


@each_example
def test_an_example_fits_the_schema_for_editors(file):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))

    validator = jsonschema.Draft7Validator(adapter_schema())
    assert [error.message for error in validator.iter_errors(content)] == []


def test_the_published_schema_is_current(request):
    expected = json.dumps(adapter_schema(), indent=2) + "\n"

    if request.config.getoption("--update-golden"):
        PUBLISHED.write_text(expected, encoding="utf-8")

    jsonschema.Draft7Validator.check_schema(json.loads(expected))
    assert PUBLISHED.read_text(encoding="utf-8") == expected, "write it with --update-golden"
