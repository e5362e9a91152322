"""`delegraph registry`: check, show, diff, schema and record as a person types them."""

import json

import pytest

GOOD = {
    "agents": "agents:\n"
    "  bot:\n"
    "    class: worker\n"
    "    aliases: [{issuer: 'https://as', subject: svc-bot}]\n"
    "    owner_application: ann\n"
    "    owner_iam: ann\n"
    "    owner_platform: bob\n"
    "    status: suspended\n"
    "    static_secret_exceptions:\n"
    "      - {secret_id: key-1, reason: legacy, approved_by: ann, until: 2026-03-11}\n"
    "    history: [{until: 2026-02-01, status: active}]\n",
    "classes": "classes: {worker: {version: '1', max_depth: 3, signoff_roles: [security]}}\n",
    "people": "people: {ann: {status: active}, bob: {status: left}}\n",
}
AS_OF = ("--as-of", "2026-03-01")


@pytest.fixture
def registry(tmp_path):
    def make(name="registry", **files):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file, text in (GOOD | files).items():
            (folder / f"{file}.yaml").write_text(text)
        return folder

    return make


def test_check_prints_what_has_run_out_and_ends_well(cli, registry):
    result = cli("registry", "check", registry(), *AS_OF)

    assert result.code == 0
    assert "agents.yaml:7: warning: " in result.out
    assert result.out.splitlines()[-1].endswith(
        "1 identities in 1 classes, no faults, 2 warning(s)"
    )


def test_check_names_every_fault_and_exits_2(cli, registry):
    folder = registry(classes="classes: {worker: {max_dept: 3}}\n", people="people: {ann: {}}\n")

    result = cli("registry", "check", folder)

    assert result.code == 2
    assert 'classes.yaml:1: unknown key "max_dept"; did you mean "max_depth"?' in result.err
    assert 'people.yaml:1: the key "status" is missing' in result.err


def test_what_a_file_quotes_moves_no_cursor(cli, tmp_path):
    (tmp_path / "registry").mkdir()
    agents = 'agents: {a: {kind: "ro\\u202ebot", "cl\\e[5ms": x}, b: {owner_iam: "x\\u202e"}}'
    (tmp_path / "registry" / "agents.yaml").write_text(agents + "\n")

    result = cli("registry", "check", "registry")

    assert result.code == 2
    assert len(result.err.splitlines()) == 2
    assert not {"\x1b", "\u202e"} & set(result.err)


def test_check_json_holds_faults_and_warnings_alike(cli, registry):
    good, bad = registry("good"), registry("bad", classes="classes: {worker: {max_dept: 3}}\n")

    warned, faulty = (
        cli("registry", "check", good, *AS_OF, "--json"),
        cli("registry", "check", bad, "--json"),
    )

    assert (warned.code, faulty.code) == (0, 2)
    assert {(i["level"], i["line"]) for i in warned.json["items"]} == {
        ("warning", 7),
        ("warning", 1),
    }
    assert warned.json["rows"]["reg_identities"] == 1
    assert [(i["level"], i["line"]) for i in faulty.json["items"]] == [("error", 1)]
    assert faulty.json["policy_version"] is None


def test_check_warns_of_a_suppression_whose_rule_there_is_not(cli, registry):
    folder = registry(
        suppressions="suppressions:\n  s:\n    rule: static_secret_rot\n"
        "    predicate: {entity: bot}\n    reason: r\n    owner: ann\n"
        "    created_at: 2026-02-01\n    expires_at: 2026-04-01\n"
    )

    result = cli("registry", "check", folder, *AS_OF)

    told = 'there is no rule "static_secret_rot"; did you mean "static_secret_root"?'
    assert f"suppressions.yaml:3: warning: {told}" in result.out


def test_check_warns_of_a_suppression_by_a_column_that_no_finding_has(cli, registry):
    entry = (
        "    rule: LS-07\n    reason: r\n    owner: ann\n    created_at: 2026-02-01\n"
        "    expires_at: 2026-04-01\n"
    )
    folder = registry(
        suppressions=f"suppressions:\n  s:\n{entry}    predicate: {{entiti: bot, severity: [3]}}\n"
        f"  t:\n{entry}    predicate: {{identity_id: bot}}\n"
    )

    result = cli("registry", "check", folder, *AS_OF)

    told = 'no finding of LS-07 has a column "entiti"; did you mean "entity"?'
    assert f"suppressions.yaml:8: warning: {told}" in result.out
    assert result.out.count("has a column") == 1


def test_a_registry_that_is_named_and_not_there_is_refused_before_anything_is_judged(
    cli, registry, story
):
    """An empty policy in its place would refute and re-route what yesterday's run found."""
    detect = ("detect", "--only", "PC-02", "--as-of", "2026-11-21")
    assert cli(*detect, "--registry", registry()).code == 0

    results = [
        cli("registry", "check", "absent"),
        cli(*detect, "--registry", "absent"),
        cli("chains", "build", "--registry", "absent"),
    ]

    assert {result.code for result in results} == {2}
    assert all("absent: there is no registry folder there" in result.err for result in results)
    policies = cli("sql", "--format", "json", "SELECT DISTINCT policy_version FROM findings").json
    assert [row["policy_version"] for row in policies] != ["none"]


def test_check_of_an_empty_folder_says_that_nothing_is_known(cli, tmp_path):
    (tmp_path / "empty").mkdir()

    result = cli("registry", "check", tmp_path / "empty")

    assert result.code == 0
    assert "nothing is known of any agent" in result.err


def test_show_prints_an_identity_by_its_alias(cli, registry):
    result = cli("registry", "show", "svc-bot", "--registry", registry(), *AS_OF)

    assert result.code == 0
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0].startswith("identity bot ")
    assert "max_depth 3 (class worker)" in lines
    assert "application ann (active)" in lines
    assert "platform bob (left)" in lines
    assert "sign-off missing security" in lines
    assert any("key-1" in line and "10 days left" in line for line in lines)
    assert "from always until 2026-02-01T00:00:00Z: status active" in " ".join(lines)


def test_show_json_of_a_class_holds_the_hash_to_sign_and_who_uses_it(cli, registry):
    folder = registry()
    (item,) = cli("registry", "show", "worker", "--registry", folder, "--json").json["items"]
    signed = registry(
        "signed",
        signoffs="signoffs: [{class: worker, approver: ann, role: security,"
        f" scope_hash: '{item['scope_hash']}', signed_at: 2026-01-01, expires_at: 2026-12-01}}]",
    )

    (after,) = cli("registry", "show", "worker", "--registry", signed, *AS_OF, "--json").json[
        "items"
    ]

    assert (item["type"], item["used_by"]) == ("class", ["bot"])
    assert (item["roles_missing"], after["roles_missing"]) == (["security"], [])
    assert after["signoffs"][0]["state"] == "valid"


def test_show_of_a_name_that_there_is_not_names_the_nearest(cli, registry):
    result = cli("registry", "show", "wrker", "--registry", registry())

    assert result.code == 2
    assert 'nothing named "wrker"; did you mean worker?' in result.err


def test_diff_puts_what_widens_authority_first(cli, registry):
    old = registry("old")
    new = registry(
        "new",
        classes="classes: {worker: {version: '2', max_depth: 5, signoff_roles: [security]}}\n",
        people="people: {ann: {status: active}, bob: {status: active}}\n",
    )

    text = cli("registry", "diff", old, new)
    items = cli("registry", "diff", old, new, "--json").json["items"]

    assert text.code == 0
    wide, _, other = text.out.partition("other changes")
    assert wide.startswith("widens authority (2)")
    assert " ".join(wide.split()).endswith("changed classes/worker max_depth 3 -> 5")
    assert "changed people/bob" in other
    assert "needs new sign-offs: worker" in other
    assert {(i["section"], i["name"]): i["widens"] for i in items} == {
        ("agents", "bot"): ["max_depth"],
        ("classes", "worker"): ["max_depth"],
        ("people", "bob"): [],
    }


def test_diff_of_equal_folders_says_so(cli, registry):
    assert cli("registry", "diff", registry("a"), registry("b")).out == "no difference\n"


def test_schema_prints_one_file_s_json_schema(cli):
    result = cli("registry", "schema", "people.yaml")

    assert json.loads(result.out)["properties"].keys() == {"people", "groups"}
    assert "agents.yaml" in cli("registry", "schema").out
    assert cli("registry", "schema", "agent.yaml").code == 2


def test_record_states_since_when_a_folder_has_been_in_force(cli, registry, story):
    first = registry("first")
    second = registry(
        "second",
        agents=GOOD["agents"].partition("    history")[0],
        classes="classes: {worker: {max_depth: 9}}\n",
    )
    for folder in (first, second):
        detect = ("detect", "--registry", folder, "--only", "static_secret_root")
        assert cli(*detect, "--as-of", "2026-11-21").code == 0

    def depths():
        (item,) = cli("registry", "show", "bot", "--registry", second, "--json").json["items"]
        return [period["otherwise"].get("max_depth", 9) for period in item["history"]]

    before = depths()
    assert cli("registry", "record", "--registry", second).code == 0

    assert before == [9, 3, 3]
    assert depths() == [9]
    assert cli("registry", "record").code == 2
