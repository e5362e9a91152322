"""`delegraph findings` and `delegraph rules` as people use them, on one small lake."""

import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "pipeline" / "detections" / "rules"
AS_OF = "2026-11-21"
LATER = "2026-11-22"


@pytest.fixture
def found(cli, story, tmp_path):
    """The story with PC-01 and PC-02 found; `coder` is owned by the crew."""
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "agents.yaml").write_text("agents: {coder: {owner_application: crew}}\n")
    (registry / "suppressions.yaml").write_text(
        "suppressions: {noise: {rule: PC-01, predicate: {entity: coder}, reason: known,"
        " owner: ann, created_at: 2026-11-01, expires_at: 2026-12-01}}\n"
    )
    (tmp_path / "delegraph.toml").write_text('[registry]\nfolder = "registry"\n')
    assert cli("detect", "--only", "PC-01", "PC-02", "--as-of", AS_OF).code == 0
    return {
        row["rule_code"]: row
        for row in cli("findings", "ls", "--status", "all", "--json").json["items"]
    }


def test_a_finding_is_shown_accepted_listed_by_owner_and_opened_again(cli, found):
    finding_id = found["PC-02"]["finding_id"]

    listed = cli("findings", "ls", "--owner", "crew")
    unowned = cli("findings", "ls", "--unowned", "--json").json
    shown = cli("findings", "show", finding_id[:10]).out
    told = cli("findings", "show", finding_id, "--json").json
    accept = ("findings", "accept", finding_id, "--reason", "a pilot\x1b[31m", "--by", "ann")
    past = cli(*accept, "--until", AS_OF, "--as-of", AS_OF)
    accepted = cli(*accept, "--until", "2026-11-21T12:00:00Z", "--as-of", AS_OF)
    cli("detect", "--only", "PC-02", "--as-of", AS_OF)
    while_accepted = cli("findings", "ls", "--status", "accepted", "--json").json
    cli("detect", "--only", "PC-02", "--as-of", LATER)
    history = cli("findings", "show", finding_id, "--json").json["history"]

    assert "1 finding: crew 1" in listed.err
    assert unowned["items"] == []
    for part in ("CRITICAL", "owner crew", "WIDENED", "WHY", "1. ", "EVIDENCE: 2 OF 2", "HISTORY"):
        assert part in shown
    assert "exchange jti child" in shown
    assert told["evidence"]["in_lake"] == told["evidence"]["cited"] == 2
    assert told["rule"]["runbook"]
    assert past.code == 2
    assert accepted.code == 0
    assert [item["decided_by"] for item in while_accepted["items"]] == ["ann"]
    assert [(one["change"], one["changed_by"]) for one in history] == [
        ("created", None),
        ("accepted", "ann"),
        ("reopened", None),
    ]
    assert "\x1b" not in json.dumps(history)


def test_a_rule_that_there_is_not_is_told_where_nothing_is_listed(cli, story):
    none, slip = (cli("findings", "ls", "--rule", name).err for name in ("PC-02", "actor_erasd"))

    assert "no rule" not in none
    assert 'there is no rule "actor_erasd"; did you mean "actor_erased"?' in slip


def test_a_decision_without_a_reason_or_a_name_is_refused(cli, found):
    finding_id = found["PC-02"]["finding_id"]
    actions = (["accept", finding_id, "--until", "2030-01-01"], ["close", finding_id])
    empty = (["--reason", " \n"], ["--reason", "why", "--by", ""])

    results = [cli("findings", *action, *words) for action in actions for words in empty]

    closed = cli("findings", "close", finding_id, "--reason", "why", "--by", "ann")
    shown = cli("findings", "show", finding_id).out

    assert closed.code == 0
    assert "nothing to decide: it has ended" in shown
    assert "findings close" not in shown
    assert [result.code for result in results] == [2] * 4
    assert all("must not be empty" in result.err for result in results)


def test_suppressions_say_what_they_hide(cli, found):
    suppressed = found["PC-01"]
    table = cli("findings", "suppressions", "--as-of", AS_OF)
    (row,) = cli("findings", "suppressions", "--json", "--as-of", LATER).json["items"]

    assert (suppressed["status"], suppressed["suppressed_by"]) == ("suppressed", "noise")
    assert "expires soon" in table.out
    assert (row["id"], row["hidden_now"], row["owner"]) == ("noise", 1, "ann")


def test_a_changed_rule_is_tried_on_the_history_and_nothing_is_written(cli, found, tmp_path):
    source = RULES / "authority_beyond_root"
    changed = tmp_path / "changed" / source.name
    shutil.copytree(source, changed)
    sql = (changed / "rule.sql").read_text()
    before = cli("sql", "--format", "json", "SELECT count(*) AS n FROM runs").json

    same = cli("rules", "impact", changed, "--as-of", LATER, "--json").json
    (changed / "rule.sql").write_text(f"SELECT * FROM ({sql.rstrip().rstrip(';')}) WHERE false")
    gone = cli("rules", "impact", changed, "--as-of", LATER, "--json").json
    new = cli("rules", "impact", source, "--baseline", changed, "--as-of", LATER, "--json").json
    outside = cli("rules", "impact", changed, "--to", "2026-11-01", "--as-of", LATER, "--json").json
    week = ("--from", "2026-11-16", "--to", "2026-11-23")
    expected = cli("rules", "impact", changed, *week, "--as-of", LATER, "--json").json
    (changed / "rule.sql").write_text(
        f"SELECT * REPLACE (1 AS severity) FROM ({sql.rstrip().rstrip(';')})"
    )
    table = cli("rules", "impact", changed, *week, "--as-of", LATER)

    assert (same["same"], same["new"], same["gone"], same["changed"]) == (1, 0, 0, 0)
    assert same["compared_with"] == "stored findings"
    assert [item["change"] for item in gone["items"]] == ["gone"]
    assert [item["change"] for item in new["items"]] == ["new"]
    assert new["alerts"] == [{"day": "2026-11-20", "owner": "crew", "before": 0, "after": 1}]
    assert outside["items"] == []
    (owner,) = expected["alerts_per_owner"]
    assert (owner["owner"], owner["days"]) == ("crew", 7)
    assert (owner["before_per_day"], owner["after_per_day"]) == (0.14, 0.0)
    lines = [" ".join(line.split()) for line in table.out.splitlines()]
    assert any(re.match(r"changed severity \d -> \d crew coder ", line) for line in lines)
    assert "crew 7 0.14 0.0" in lines
    assert "0 new, 0 gone, 1 changed" in table.err
    assert cli("sql", "--format", "json", "SELECT count(*) AS n FROM runs").json == before


def test_catching_up_is_for_schedulers_and_refuses_a_window(cli, story):
    done = cli(
        "detect",
        "--catch-up",
        "--since",
        "2026-11-20T22:00:00Z",
        "--as-of",
        AS_OF,
        "--only",
        "PC-01",
        "--json",
    )
    ran = cli("sql", "--format", "json", "SELECT count(*) AS n FROM runs").json

    assert (done.code, ran) == (0, [{"n": 3}])
    assert cli("detect", "--catch-up", "--from", "7d").code == 2
    assert cli("detect", "--since", "7d").code == 2


def test_a_rule_that_binds_and_fails_on_data_is_recorded_and_the_others_run(cli, story, tmp_path):
    source = RULES / "scope_widened_on_exchange"
    rules = tmp_path / "rules"
    shutil.copytree(source, rules / "mine_fails")
    toml = (rules / "mine_fails" / "rule.toml").read_text().replace(source.name, "mine_fails")
    (rules / "mine_fails" / "rule.toml").write_text(re.sub(r"PC-01", "PC-99", toml))
    sql = (rules / "mine_fails" / "rule.sql").read_text().rstrip().rstrip(";")
    (rules / "mine_fails" / "rule.sql").write_text(
        f"SELECT * REPLACE (CAST(CAST(entity AS INTEGER) AS VARCHAR) AS entity) FROM ({sql})"
    )
    (rules / "unreadable").mkdir()
    (rules / "unreadable" / "rule.toml").write_text("id = \n")

    linted = cli("rules", "lint", rules / "mine_fails")
    faulty = cli("rules", "lint", rules)
    result = cli("detect", "--rules", rules, "--only", "PC-01", "PC-99", "--as-of", AS_OF)
    shutil.rmtree(rules / "unreadable")
    result = cli("detect", "--rules", rules, "--only", "PC-01", "PC-99", "--as-of", AS_OF, "--json")

    assert linted.code == 0, linted.out
    assert (faulty.code, "unreadable/rule.toml:1" in faulty.out) == (3, True)
    assert result.code == 3
    assert "mine_fails/rule.sql:1" in result.err
    assert [item["rule_code"] for item in result.json["items"]] == ["PC-01"]
    states = cli(
        "sql", "--format", "json", "SELECT rule_id, state, error IS NULL AS ok FROM runs ORDER BY 1"
    ).json
    assert [(row["state"], row["ok"]) for row in states] == [("failed", False), ("done", True)]


def test_rules_are_listed_with_their_mappings_and_cases(cli):
    listed = cli("rules", "ls", "--family", "PC", "--maturity", "stable", "--json").json["items"]
    table = cli("rules", "ls", "--family", "PC")

    widened = next(row for row in listed if row["code"] == "PC-01")
    assert {row["family"] for row in listed} == {"PC"}
    assert widened["cases"]["firing"] > 0
    assert widened["cases"]["quiet"] > 0
    assert all(one["title"] for one in widened["mappings"]["owasp_asi"])
    assert "scope_widened_on_exchange" in table.out


def test_a_slip_in_a_name_is_a_usage_error_that_tells_the_right_one(cli, found):
    slipped = cli("detect", "--only", "unregistered_agnt")
    assert slipped.code == 2
    assert 'did you mean "unregistered_agent"' in slipped.err
    tested = cli("rules", "test", "unregistered_agnt")
    assert tested.code == 2
    assert 'did you mean "unregistered_agent"' in tested.err
    closed = cli("findings", "ls", "--status", "closed")
    assert closed.code == 2
    assert "resolved" in closed.err
