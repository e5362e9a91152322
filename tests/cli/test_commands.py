"""The road as outside programs call it: ingest, build, detect, ask."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS

ROOT = Path(__file__).parents[2]


def test_several_files_after_one_from_are_all_taken(cli, story):
    result = cli("sql", "--format", "json", "SELECT count(*) AS n FROM token_events")

    assert result.json == [{"n": 2}]
    assert cli("sql", "--format", "json", "SELECT count(*) AS n FROM tool_calls").json == [{"n": 1}]


def test_the_same_files_again_add_nothing(cli, story, tmp_path):
    again = cli(
        "ingest", "--json", "--from", tmp_path / "tokens.jsonl", "--from", tmp_path / "calls.jsonl"
    )

    assert (again.code, again.json["records"]) == (0, 0)


def test_building_reports_as_one_json_object(cli, story):
    result = cli("chains", "build")

    assert result.code == 0
    assert {"mode", "credentials", "chains"} <= set(result.json)


def test_a_chain_is_shown_by_the_id_of_its_credential(cli, story):
    shown = cli("chains", "show", "child")
    data = cli("chains", "show", "child", "--json")

    assert "alice" in shown.out
    assert "WIDENED" in shown.out
    assert isinstance(data.json, dict)


def test_an_unknown_chain_is_an_error(cli, story):
    result = cli("chains", "show", "nobody")

    assert result.code == 2
    assert "nobody" in result.err


def test_detection_finds_what_the_story_plants(cli, story):
    result = cli("detect", "--only", "PC-01", "PC-02", "--as-of", "2026-11-21", "--json")

    assert result.code == 0
    assert {item["rule_code"] for item in result.json["items"]} == {"PC-01", "PC-02"}
    assert set(result.json) >= {"schema", "generated_at", "coverage", "items", "next"}


def test_fail_on_turns_findings_into_an_exit_code(cli, story):
    args = ("detect", "--only", "PC-01", "--as-of", "2026-11-21")
    severity = cli(*args, "--json").json["items"][0]["severity"]

    assert severity < 5
    assert cli(*args, "--fail-on", severity).code == 1
    assert cli(*args, "--fail-on", severity + 1).code == 0


def test_a_rule_that_fails_exits_3_and_the_others_have_run(cli, story, tmp_path):
    rules = tmp_path / "rules"
    source = ROOT / "pipeline" / "detections" / "rules" / "scope_widened_on_exchange"
    copy = rules / "mine_fails"
    copy.mkdir(parents=True)
    toml = (source / "rule.toml").read_text(encoding="utf-8")
    toml = toml.replace('"scope_widened_on_exchange"', '"mine_fails"').replace("PC-01", "PC-99")
    (copy / "rule.toml").write_text(toml, encoding="utf-8")
    sql = (source / "rule.sql").read_text(encoding="utf-8")
    (copy / "rule.sql").write_text(sql.replace("FROM hops", "FROM no_such_view"), encoding="utf-8")
    (copy / "count.sql").write_text("SELECT 1", encoding="utf-8")

    result = cli(
        "detect", "--rules", rules, "--only", "PC-01", "PC-99", "--as-of", "2026-11-21", "--json"
    )

    assert result.code == 3
    assert "no_such_view" in result.err
    assert [item["rule_code"] for item in result.json["items"]] == ["PC-01"]


def test_findings_are_listed_filtered_shown_and_closed(cli, story):
    cli("detect", "--only", "PC-01", "PC-02", "--as-of", "2026-11-21")
    listed = cli("findings", "ls", "--rule", "PC-01", "--json").json
    finding_id = listed["items"][0]["finding_id"]
    page = cli("findings", "ls", "--limit", "1", "--json").json

    shown = cli("findings", "show", finding_id[:12])
    closed = cli("findings", "close", finding_id[:12], "--reason", "told\x1b[31m\nthe owner")
    after = cli("findings", "ls", "--status", "resolved", "--json").json

    assert len(listed["items"]) == 1
    assert page["next"] == 1
    assert finding_id in shown.out
    assert "WIDENED" in shown.out
    assert closed.code == 0
    assert [item["finding_id"] for item in after["items"]] == [finding_id]
    history = cli("findings", "show", finding_id, "--json").json["history"]
    assert [change["change"] for change in history] == ["created", "closed"]
    assert cli("findings", "close", finding_id, "--reason", "again").code == 2


def test_an_unknown_finding_is_an_error(cli, story):
    assert cli("findings", "show", "zz").code == 2


@pytest.mark.parametrize(
    "query",
    [
        "DROP VIEW calls",
        "CREATE TABLE t (a INT)",
        "COPY (SELECT 1) TO 'x.csv'",
        "ATTACH 'x.db'",
        "SET threads = 1",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT * FROM read_text('/etc/passwd')",
    ],
)
def test_sql_that_is_not_one_select_of_the_lake_is_refused(cli, lake, query):
    result = cli("sql", "--lake", lake.uri, "--format", "json", query)

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")


def test_sql_without_a_query_reads_stdin(cli, lake, monkeypatch, tmp_path):
    (tmp_path / "q.sql").write_text("SELECT 7 AS n")
    with (tmp_path / "q.sql").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)

        assert cli("sql", "--lake", lake.uri, "--format", "csv").out == "n\n7\n"


def test_every_time_is_iso_with_z_and_every_list_an_array(cli, story):
    (row,) = cli(
        "sql",
        "--format",
        "json",
        "SELECT event_time, required_scopes, ext FROM tool_calls",
    ).json

    assert row["event_time"].endswith("Z")
    assert row["required_scopes"] == ["deploy.prod"]
    assert row["ext"] == {}


def test_the_lake_option_may_stand_before_or_after_the_command(cli, story, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    before = cli("--lake", story, "sql", "--format", "csv", "SELECT count(*) AS n FROM tool_calls")
    after = cli("sql", "--lake", story, "--format", "csv", "SELECT count(*) AS n FROM tool_calls")

    assert before.out == after.out == "n\n1\n"


def test_connect_prints_a_script_that_a_bare_client_runs(cli, story):
    script = cli("connect").out.strip()

    program = (
        "import duckdb, sys; con = duckdb.connect(); "
        "con.execute(open(sys.argv[1]).read()); "
        "print(con.execute('SELECT count(*) FROM calls').fetchone()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, script], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_dead_letters_are_listed_and_replayed(cli, tmp_path):
    event = {"family": "tool_call", "event_id": "e1", "source": "s"}
    (tmp_path / "bad.jsonl").write_text(json.dumps(event) + "\n{broken\n")
    cli("ingest", "--from", tmp_path / "bad.jsonl")

    listed = cli("dead-letters", "ls", "--json").json
    replayed = cli("dead-letters", "replay").json

    assert len(listed["items"]) == 2
    assert "raw" not in listed["items"][0]
    assert replayed == {"letters": 2, "rows": {}, "still_refused": 2}
    assert len(cli("dead-letters", "ls", "--json").json["items"]) == 2


def test_a_replay_with_the_right_adapter_becomes_events_once(cli, tmp_path):
    """CloudTrail records that were read as native ones by mistake."""
    record = {
        "eventVersion": "1.08",
        "eventID": "11111111-1111-1111-1111-111111111111",
        "eventTime": "2026-11-20T10:00:00Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "ListBuckets",
        "awsRegion": "eu-west-1",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::1:user/a", "accountId": "1"},
        "recipientAccountId": "1",
        "eventType": "AwsApiCall",
    }
    (tmp_path / "trail.jsonl").write_text(json.dumps(record) + "\n")
    cli("ingest", "--from", tmp_path / "trail.jsonl", "--adapter", "native")

    dry = cli("dead-letters", "replay", "--adapter", "cloudtrail", "--dry-run").json
    first = cli("dead-letters", "replay", "--adapter", "cloudtrail").json
    second = cli("dead-letters", "replay", "--adapter", "cloudtrail").json

    assert dry["rows"] == first["rows"] == {"tool_calls": 1}
    assert second["rows"] == {"tool_calls": 0}
    assert cli("sql", "--format", "csv", "SELECT count(*) AS n FROM tool_calls").out == "n\n1\n"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("sql", "SELECT 1"), 2, "no lake there"),
        (("ingest", "--from", "absent.json"), 4, "absent.json"),
        (("ingest", "--adapter", "pigeon"), 2, "cloudtrail"),
        (("ingest", "--form", "x"), 2, "--from"),
        (("detct",), 2, "Did you mean 'detect'"),
        (("findings", "ls", "--severity", "9"), 2, "9"),
        (("detect", "--from", "never"), 2, "RFC 3339"),
        (("lake", "expire"), 2, "--before"),
        (("alerts", "test", "--to", "soc"), 2, "no sink is called"),
        (("config", "show", "--config", "absent.toml"), 2, "absent.toml"),
        (("registry", "check", "absent"), 2, "there is no registry folder there"),
    ],
)
def test_what_is_wrong_is_said_in_words_with_its_exit_code(cli, args, code, words):
    result = cli(*args)

    assert result.code == code
    assert words in result.err
    assert "Traceback" not in result.err


def test_a_folder_that_is_not_a_lake_is_left_alone(cli, tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "thesis.txt").write_text("mine")
    (tmp_path / "e.jsonl").write_text("{}\n")

    result = cli("ingest", "--from", tmp_path / "e.jsonl")

    assert result.code == 2
    assert "not a delegraph lake" in result.err
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(cli, command):
    result = cli(command, "--help")

    assert result.code == 0
    assert "Usage: delegraph" in result.out


def test_a_bug_is_one_line_without_values_of_a_traceback(cli, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("secret=hunter22hunter22")

    monkeypatch.setattr("pipeline.cli.options.load_config", broken)
    monkeypatch.delenv("DELEGRAPH_DEBUG", raising=False)

    result = cli("config", "show")

    assert result.code == 70
    assert result.err.startswith("bug: RuntimeError")
    assert "hunter22" not in result.err


def test_the_configuration_is_shown_masked(cli, tmp_path):
    (tmp_path / "delegraph.toml").write_text('[kafka.security]\n"sasl.password" = "hunter22"\n')

    result = cli("config", "show")

    assert '"sasl.password" = "***"' in result.out


def test_the_lake_is_compacted_verified_and_described(cli, story):
    assert set(cli("lake", "compact").json) == {"compacted", "deleted_files"}
    assert cli("lake", "verify").json["problems"] == []
    views = {row["view"] for row in cli("lake", "schema", "--json").json}
    assert {"calls", "findings", "hops"} <= views


def test_expiring_forgets_events_and_says_so(cli, story):
    result = cli("lake", "expire", "--before", "2026-12-01")

    assert result.json["before"] == "2026-12-01"
    assert cli("sql", "--format", "csv", "SELECT count(*) AS n FROM tool_calls").out == "n\n0\n"


def test_doctor_names_a_fix_for_each_fault(cli):
    result = cli("doctor", "--offline")

    assert result.code == 2
    assert "FAULT  lake" in result.out
    assert "fix: run: delegraph ingest" in result.out


def test_doctor_finds_a_built_lake_well(cli, story):
    cli("detect", "--only", "PC-01")

    result = cli("doctor", "--offline", "--json")

    assert result.code == 0, result.out
    assert {check["is_ok"] for check in result.json["items"]} == {True}


def test_an_interrupt_exits_130(tmp_path):
    program = (
        "import os, signal\nfrom pipeline import cli\n"
        # A shell's background job ignores the signal, and so would its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def interrupt(*_args, **_kwargs): os.kill(os.getpid(), signal.SIGINT)\n"
        "cli.cli.main = interrupt\ncli.main(['config', 'show'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )

    assert (done.returncode, done.stderr) == (130, b"interrupted\n")
    assert signal.SIGINT == 2


@pytest.mark.parametrize("job", sorted(path.stem for path in (ROOT / "jobs").glob("[a-z]*.py")))
def test_a_job_is_its_command_as_a_module(job, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{job}", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )

    assert done.returncode == 0
    assert done.stdout.startswith("Usage: delegraph ")
