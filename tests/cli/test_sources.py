"""`delegraph sources`, and what `delegraph ingest` says of files that it recognised."""

import io
import json
import re
import shutil
from collections import Counter

import pytest
from attenu_guard import Authority, Guard

from pipeline.cli.ingest import recognised
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import adapter_names
from pipeline.ingest.tally import Taken, Tally
from tests.factories import tool_call

SAMPLES = sample_path("native").parent


@pytest.fixture
def mixed(tmp_path):
    """Two CloudTrail records, one of ours, one that nobody knows, and half a record."""
    document = json.loads(sample_path("cloudtrail").read_text())
    lines = [*document["Records"][:2], tool_call(), {"what": "ever"}]
    path = tmp_path / "mixed.log"
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"half\n')
    return path


def test_every_source_is_listed_with_what_it_reads_and_gives(cli):
    listed = cli("sources", "ls", "--json").json

    rows = {row["source"]: row for row in listed["items"]}
    assert listed["schema"] == "delegraph.sources/1"
    assert list(rows) == adapter_names()
    assert rows["cloudtrail"]["families"] == ["tool_call", "token_event", "secret_event"]
    assert rows["cloudtrail"]["sample"] > 0
    assert all(row["reads"] for row in rows.values())


def test_a_sample_piped_into_ingest_becomes_events(cli, monkeypatch):
    printed = cli("sources", "sample", "cloudtrail").out
    stdin = io.TextIOWrapper(io.BytesIO(printed.encode()))
    monkeypatch.setattr("sys.stdin", stdin)

    result = cli("ingest", "--from", "-", "--json")
    report = result.json

    assert printed == sample_path("cloudtrail").read_text()
    assert report["rows"]["tool_calls"] == 10
    (taken,) = report["taken"]
    assert (taken["asked"], taken["adapter"], taken["records"]) == (AUTO, "cloudtrail", 10)


def test_ingest_says_who_took_the_records_of_each_file(cli, mixed):
    result = cli("ingest", "--from", mixed)

    assert result.code == 0
    assert "note: mixed.log: 2 records as cloudtrail, 1 as native, 2 not recognised" in result.err
    (letter, other) = cli("dead-letters", "ls", "--json").json["items"]
    assert {letter["adapter"], other["adapter"]} == {AUTO}


def test_letters_of_nobody_are_read_again_by_their_content(cli, mixed):
    cli("ingest", "--from", mixed)

    assert cli("dead-letters", "replay").json == {"letters": 2, "rows": {}, "still_refused": 2}


def test_of_many_files_the_sum_is_told_and_those_that_hold_something_unknown():
    taken = Counter({Taken(f"file:{n}.json#0", AUTO, "cloudtrail"): 2 for n in range(30)})
    taken[Taken("file:7.json#0", AUTO, None)] = 1

    assert recognised(Tally(taken)) == [
        "30 files: 60 records as cloudtrail, 1 not recognised",
        "7.json: 2 records as cloudtrail, 1 not recognised",
    ]


def test_topics_whose_adapter_is_configured_are_not_told():
    assert recognised(Tally(Counter({Taken("t", "native", "native"): 5}))) == []


def test_a_check_says_what_would_be_taken_and_stores_nothing(cli, mixed, tmp_path):
    result = cli("sources", "check", mixed)

    assert result.code == 1
    assert "2 records as cloudtrail: 1 token_event, 2 tool_call" in result.out
    assert "1 records as native: 1 tool_call" in result.out
    assert "2 not recognised" in result.out
    assert "(first: mixed.log: record 4)" in result.out
    assert not (tmp_path / "lake").exists()


def test_a_check_of_a_ledger_without_times_takes_it_as_received_now(cli, tmp_path):
    guard = Guard.issue("lead", Authority(scopes={"a.b"}), audit_path=tmp_path / "ledger.jsonl")
    guard.check("a.b")

    result = cli("sources", "check", str(tmp_path / "ledger.jsonl"))

    assert result.code == 0
    assert "2 records as attenu_guard: 1 token_event, 1 tool_call" in result.out


def test_a_check_of_a_sample_by_name_ends_well(cli):
    result = cli("sources", "check", sample_path("cloudtrail"), "--adapter", "cloudtrail", "--json")

    (report,) = result.json["items"]
    assert result.code == 0
    assert report["ok"]
    assert report["records"] == 10
    assert report["rows"]["tool_call"] == 10


def test_a_check_with_the_wrong_adapter_says_why_records_are_refused(cli):
    result = cli("sources", "check", sample_path("native"), "--adapter", "cloudtrail")

    assert result.code == 1
    assert "eventTime" in result.out


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("sources", "sample", "pigeon"), 2, "cloudtrail"),
        (("sources", "check", "absent.log"), 4, "absent.log"),
        (("sources", "check", "own.yaml"), 2, "sample"),
        (("sources", "check", "ocsf", "x.log"), 2, "--adapter ocsf"),
        (("sources", "check", "absent.yaml", "x.log"), 2, "absent.yaml"),
        (("ingest", "--from", "x", "--adapter", "kubernets_audit"), 2, "Did you mean"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(cli, args, code, words):
    result = cli(*args)

    assert result.code == code
    assert words in result.err


DECLARED = SAMPLES / "declared"


@pytest.fixture
def own(tmp_path):
    """A configuration whose `auto` knows the declared example."""
    (tmp_path / "own").mkdir()
    shutil.copy(DECLARED / "acme_gateway.yaml", tmp_path / "own" / "acme.yaml")
    (tmp_path / "delegraph.toml").write_text('[ingest]\nsources = ["own/acme.yaml"]\n')
    return "own/acme.yaml"


def test_a_yaml_file_of_one_s_own_joins_auto_by_the_configuration(cli, own):
    sample = DECLARED / "acme_gateway.jsonl"
    named = cli("sources", "check", own, sample, "--json").json["items"][0]

    report = cli("ingest", "--from", sample, sample_path("cloudtrail"), "--json").json

    taken = {item["adapter"]: item["records"] for item in report["taken"]}
    assert own in [row["source"] for row in cli("sources", "ls", "--json").json["items"]]
    assert taken["cloudtrail"] == 10
    assert [count for name, count in taken.items() if name and name.endswith("acme.yaml")] == [
        named["records"]
    ]
    assert {item["reason"]: item["records"] for item in report["skipped"]} == named["skipped"]
    stored = cli("sql", "--format", "json", "SELECT DISTINCT adapter FROM tool_calls ORDER BY 1")
    assert [row["adapter"] for row in stored.json] == ["acme_gateway", "cloudtrail"]


def test_what_a_file_skips_is_told_in_text(cli, own):
    result = cli("ingest", "--from", DECLARED / "acme_gateway.jsonl")

    assert "note: skipped " in result.err
    assert ": heartbeat" in result.err


def test_a_fault_of_the_yaml_file_is_named_with_its_line(cli, own, tmp_path):
    text = (tmp_path / own).read_text().replace("observer: gateway", "observer: nobody")
    (tmp_path / own).write_text(text)

    result = cli("sources", "check", own, DECLARED / "acme_gateway.jsonl")

    assert result.code == 2
    assert re.search(r"acme\.yaml:\d+", result.err)


def test_the_instance_names_the_source_where_records_do_not(cli):
    cli("ingest", "--from", sample_path("vault_audit"), "--instance", "vault-7")

    stored = cli("sql", "--format", "json", "SELECT DISTINCT source FROM tool_calls")
    assert [row["source"] for row in stored.json] == ["vault.audit:vault-7"]
