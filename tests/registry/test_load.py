"""The registry: policy files to tables, and every fault with its file and line."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest

from pipeline.errors import RegistryErrors
from pipeline.registry import load_registry
from pipeline.registry.columns import SCHEMAS

AGENTS = """\
agents:
  planner:
    kind: agent
    class: task-agent
    owner_application: team-crm
    max_depth: 2
    aliases:
      - {issuer: https://idp.example, subject: planner}
      - {subject: "no"}
    credential_ids:
      - {issuer: aws, kind: access_key_id, id: AKIAEXAMPLE}
    status: suspended
    status_since: 2026-03-01
  gateway:
    pass_through: true
    delegate_for: [planner]
"""
CLASSES = """\
classes:
  task-agent:
    version: 1.10
    max_depth: 3
    max_ttl_s: 900
    scope_ceiling: [crm.read]
    expected_tools: []
    human_root_required: true
"""


def folder(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def rows(registry, table):
    return registry.tables()[table].to_pylist()


def faults(path):
    with pytest.raises(RegistryErrors) as caught:
        load_registry(path)
    return [(e.file.rsplit("/", 1)[-1], e.line, e.message) for e in caught.value.errors]


@pytest.mark.parametrize("missing", [None, "nowhere"])
def test_without_a_folder_every_table_is_empty_and_typed(tmp_path, missing):
    registry = load_registry(missing and tmp_path / missing)

    assert registry.policy_version == "none"
    assert {table.num_rows for table in registry.tables().values()} == {0}
    assert registry.tables()["reg_identities"].schema.field("max_ttl_s").type == pa.int64()
    assert set(registry.tables()) == set(SCHEMAS)


def test_an_agent_inherits_the_limits_of_its_class_unless_it_names_its_own(tmp_path):
    registry = load_registry(folder(tmp_path, agents=AGENTS, classes=CLASSES))

    planner, gateway = rows(registry, "reg_identities")
    assert (planner["max_depth"], planner["max_ttl_s"]) == (2, 900)
    assert planner["scope_ceiling"] == ["crm.read"]
    assert planner["human_root_required"] is True
    assert (gateway["max_depth"], gateway["scope_ceiling"]) == (None, None)


def test_a_limit_that_is_an_empty_list_is_not_the_same_as_no_limit(tmp_path):
    registry = load_registry(folder(tmp_path, agents=AGENTS, classes=CLASSES))

    planner, gateway = rows(registry, "reg_identities")

    assert planner["expected_tools"] == []
    assert gateway["expected_tools"] is None


def test_status_keeps_its_date_as_midnight_utc(tmp_path):
    registry = load_registry(folder(tmp_path, agents=AGENTS, classes=CLASSES))

    planner, gateway = rows(registry, "reg_identities")

    assert planner["status"] == "suspended"
    assert planner["status_since"] == datetime(2026, 3, 1, tzinfo=UTC)
    assert (gateway["status"], gateway["status_since"]) == ("active", None)


def test_aliases_and_credentials_become_rows_and_text_stays_as_written(tmp_path):
    registry = load_registry(folder(tmp_path, agents=AGENTS, classes=CLASSES))

    assert rows(registry, "reg_aliases") == [
        {"identity_id": "planner", "issuer": "https://idp.example", "subject": "planner"},
        {"identity_id": "planner", "issuer": None, "subject": "no"},
    ]
    assert rows(registry, "reg_credential_ids") == [
        {"identity_id": "planner", "issuer": "aws", "kind": "access_key_id", "id": "AKIAEXAMPLE"}
    ]


def test_trust_scopes_and_suppressions_become_tables(tmp_path):
    registry = load_registry(
        folder(
            tmp_path,
            agents=AGENTS,
            classes=CLASSES,
            people="people: {ann: {status: left, left_at: 2026-01-31T18:00:00+02:00}}",
            signoffs="signoffs: [{class: task-agent, version: '1', approver: ann,"
            " signed_at: 2026-01-01, expires_at: 2027-01-01}]",
            trust="issuers: {https://a: {has_hierarchy: true, max_ttl_s: 28800}}\n"
            "trust_edges: [{from_domain: a, to_domain: b, allowed_scopes: [x]}]\n"
            "delegation_records: {dr-1: {principal: alice, delegate: planner}}\n"
            "identity_maps: [{from_subject: alice, to_subject: a.lice, basis: pairwise}]\n",
            scopes="implications: [{issuer: gh, scope: repo, implies: [public_repo, read]}]\n"
            "tiers: [{scope: repo, tier: 3}]\n"
            "maps: [{from_scope: a, to_scope: b, to_audience: crm}]\n",
            suppressions="suppressions: {s1: {rule: r, predicate: {entity: [a, b], title: t},"
            " reason: why, owner: ann, created_at: 2026-01-01, expires_at: 2026-02-01}}",
        )
    )

    assert rows(registry, "reg_people")[0]["left_at"] == datetime(2026, 1, 31, 16, tzinfo=UTC)
    assert rows(registry, "reg_signoffs")[0]["approver"] == "ann"
    assert rows(registry, "reg_issuers")[0]["bare_wildcard"] is False
    assert rows(registry, "reg_trust_edges")[0]["allowed_scopes"] == ["x"]
    assert rows(registry, "reg_delegation_records")[0]["status"] == "active"
    assert rows(registry, "reg_identity_maps")[0]["basis"] == "pairwise"
    assert [r["implies"] for r in rows(registry, "reg_scope_implications")] == [
        "public_repo",
        "read",
    ]
    assert rows(registry, "reg_scope_tiers")[0]["tier"] == 3
    assert rows(registry, "reg_scope_maps")[0]["to_audience"] == "crm"
    assert (
        rows(registry, "reg_suppressions")[0]["predicate"]
        == '{"entity": ["a", "b"], "title": ["t"]}'
    )


def test_all_faults_of_all_files_are_shown_at_once_with_their_lines(tmp_path):
    path = folder(
        tmp_path,
        agents=(
            "agents:\n"
            "  planner:\n"
            "    clas: task-agent\n"
            "    class: task-agnt\n"
            "    kind: robot\n"
            "    is_broker: maybe\n"
            "    status_since: 31.12.2026\n"
            "  planner: {}\n"
        ),
        classes=CLASSES + "    max_fanout: -1\n",
        suppressions="suppressions:\n  s1:\n    rule: r\n    reason: x\n    owner: o\n"
        "    predicate: {entity: a}\n    created_at: 2026-01-01\n    expires_at: 2027-01-01\n",
    )

    assert faults(path) == [
        ("agents.yaml", 3, 'unknown key "clas"; did you mean "class"?'),
        (
            "agents.yaml",
            4,
            (
                '"class" names "task-agnt", which classes.yaml does not have; did you mean'
                ' "task-agent"?'
            ),
        ),
        (
            "agents.yaml",
            5,
            (
                '"kind" is "robot", not one of human, agent, agent_user, workload, service_account,'
                " client"
            ),
        ),
        ("agents.yaml", 6, '"is_broker" must be true or false'),
        (
            "agents.yaml",
            7,
            '"status_since" must be a date or an RFC 3339 time, as 2026-03-02T12:00:00Z',
        ),
        ("agents.yaml", 8, 'duplicate key "planner", first on line 2'),
        ("classes.yaml", 9, '"max_fanout" must be a whole number from 0 to 2147483647'),
        ("suppressions.yaml", 8, '"expires_at" must lie within 180 days after "created_at"'),
    ]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("agents: [", 1, "expected the node content"),
        ("- a\n", 1, "expected a mapping"),
        ("agents:\n  - a\n", 2, "must map names to entries"),
        ("agents: {a: {aliases: {x: y}}}", 1, "must be a list"),
        ("agents: {a: {aliases: [{issuer: x}]}}", 1, '"subject" is missing'),
        ("agents: {a: {status_since: '2026-01-01T00:00:00'}}", 1, "needs an offset"),
        ("agents: {a: {delegate_for: [b]}}", 1, "agents.yaml does not have"),
        ("agents: {a: {max_depth: 99999999999}}", 1, "whole number"),
        ("agents: {a: {approval_required_for: [pay]}}", 1, "not one of"),
        ("agents: {a: {display_name: [x]}}", 1, "must be text"),
        ("agents: {a: {? [x] : y}}", 1, "a key must be plain text"),
        ("agents: " + "[" * 20_000, 1, ""),
        ("agents:\n  a: {status: activ}", 2, 'did you mean "active"?'),
        ("agents:\n  a: {aliases: [{subject: ' '}]}", 2, '"subject" must not be empty'),
        ("agents:\n  '': {kind: agent}", 2, "a name must not be empty"),
        ("agents:\n  a: {<<: {kind: agent}}", 2, "keys are not merged"),
        ("agents:\n  a: {colour: red}", 2, "delegraph registry schema agents.yaml"),
        ("agents: {}\n---\nagents: {}\n", 2, "single document in the stream, but found another"),
        ("agents:\n  a\x01b: {}\n", 2, "control character U+0001"),
        ("agents:\n\ta: {}\n", 2, "'\\t'"),
        ("agents:\n  a: {status_since: '0001-01-01T00:00:00+14:00'}", 2, "must be a date"),
    ],
)
def test_a_fault_names_its_line_and_what_is_wrong(tmp_path, text, line, part):
    (fault,) = faults(folder(tmp_path, agents=text))

    assert fault[:2] == ("agents.yaml", line)
    assert part in fault[2]


def test_a_byte_that_is_no_utf_8_is_found_by_its_line(tmp_path):
    (tmp_path / "agents.yaml").write_bytes(b"agents:\n  ok: {}\n  b\xff: {}\n")

    assert faults(tmp_path) == [("agents.yaml", 3, "not UTF-8: byte 0xff")]


@pytest.mark.parametrize(
    ("classes", "fault"),
    [
        ("classes: [", (1, "expected the node content, but found '<stream end>'")),
        ("classes: [worker]", (1, '"classes" must map names to entries')),
        ("class: {worker: }", (1, 'unknown key "class"; did you mean "classes"?')),
    ],
)
def test_names_of_a_file_that_is_faulty_itself_are_not_told_to_dangle(tmp_path, classes, fault):
    path = folder(tmp_path, agents="agents: {a: {class: worker}}", classes=classes)

    assert [found[1:] for found in faults(path) if found[0] == "classes.yaml"] == [fault]
    assert len(faults(path)) == 1


def test_a_file_that_is_none_is_a_fault_among_the_others(tmp_path):
    (tmp_path / "trust.yaml").mkdir()
    (tmp_path / "people.yaml").symlink_to(tmp_path / "nowhere")
    path = folder(tmp_path, agents="agents: {a: {clas: x}}")

    assert faults(path) == [
        ("agents.yaml", 1, 'unknown key "clas"; did you mean "class"?'),
        ("people.yaml", 1, "not readable: No such file or directory"),
        ("trust.yaml", 1, "not readable: Is a directory"),
    ]


@pytest.mark.parametrize("name", ["agents.YAML", "agents.yml", "Agents.yaml"])
def test_a_file_whose_name_is_nearly_right_is_not_left_out(tmp_path, name):
    (tmp_path / name).write_text("agents: {}")

    assert faults(tmp_path) == [(name, 1, 'unknown file; did you mean "agents.yaml"?')]


def test_a_date_at_the_end_of_the_calendar_is_a_date(tmp_path):
    path = folder(
        tmp_path,
        suppressions="suppressions: {s: {rule: r, predicate: {entity: a}, reason: x, owner: o,"
        " created_at: 9999-12-30, expires_at: 9999-12-31}}",
    )

    assert load_registry(path).tables()["reg_suppressions"].num_rows == 1


def test_one_alias_cannot_belong_to_two_identities(tmp_path):
    path = folder(
        tmp_path,
        agents="agents:\n  a: {aliases: [{issuer: i, subject: s}]}\n"
        "  b: {aliases: [{issuer: i, subject: s}]}\n",
    )

    assert faults(path) == [("agents.yaml", 3, '"s" already belongs to "a", line 2')]


def test_a_file_of_another_name_is_not_silently_left_out(tmp_path):
    path = folder(tmp_path, agent="agents: {}")

    assert faults(path) == [("agent.yaml", 1, 'unknown file; did you mean "agents.yaml"?')]


def test_the_registry_must_be_a_folder(tmp_path):
    file = tmp_path / "agents.yaml"
    file.write_text("agents: {}")

    assert faults(file) == [("agents.yaml", 1, "the registry must be a folder")]


def test_policy_version_follows_the_content_and_not_the_place(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.mkdir()
        folder(path, classes=CLASSES)
    same = load_registry(one).policy_version == load_registry(two).policy_version
    folder(two, people="people: {}")

    changed = load_registry(two).policy_version

    assert same
    assert changed != load_registry(one).policy_version
    assert len(changed) == 16


def test_tables_register_on_a_connection_under_their_names(tmp_path):
    con = duckdb.connect()
    for name, table in load_registry(folder(tmp_path, classes=CLASSES)).tables().items():
        con.register(name, table)

    assert con.execute("SELECT count(*) FROM reg_identities").fetchone() == (0,)
