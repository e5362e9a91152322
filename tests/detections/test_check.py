"""A rule's SQL against the documented views: faults show before any data is read."""

from __future__ import annotations

import pytest

from pipeline.detections.check import check_rule, view_schemas
from pipeline.detections.rule import read_rule
from pipeline.detections.run import register_policy
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.detections.folders import SQL, write_rule

COUNT = '[parameters.n]\ntype = "integer"\ndefault = 1\nreason = "r"'


def faults(tmp_path, sql=SQL, **over):
    return [str(error) for error in check_rule(read_rule(write_rule(tmp_path, sql=sql, **over)))]


def test_a_good_rule_has_no_faults(tmp_path):
    assert faults(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "outcome = 'denied'",
            "outcom = 'denied'",
            'denied/rule.sql:9: column "outcom" does not exist; did you mean "outcome"?',
        ),
        (
            "FROM tool_calls",
            "FROM tool_cals",
            (
                'denied/rule.sql:8: table "tool_cals" is not in needs.tables;'
                ' did you mean "tool_calls"?'
            ),
        ),
        (
            "FROM tool_calls",
            "FROM tool_calls SEMI JOIN token_events USING (event_uid)",
            'denied/rule.sql:8: table "token_events" is not in needs.tables',
        ),
        (
            "outcome = 'denied'",
            "attempts = $n",
            'denied/rule.sql:9: "$n" is not declared in rule.toml',
        ),
        ("    agent_id AS entity,\n", "", 'denied/rule.sql:1: the column "entity" is missing'),
        (
            "    agent_id,\n",
            "",
            'denied/rule.sql:1: the column "agent_id" is missing',
        ),
        (
            "    agent_id,\n",
            "    agent_id AS agent_ids,\n",
            'denied/rule.sql:1: the column "agent_id" is missing; did you mean "agent_ids"?',
        ),
        (
            "FROM tool_calls",
            "FROM read_csv('/etc/hostname')",
            (
                'denied/rule.sql:8: Cannot access file "/etc/hostname" - file system operations'
                " are disabled by configuration"
            ),
        ),
        (
            "min(event_time) AS first_seen",
            "1 AS first_seen",
            'denied/rule.sql:1: the column "first_seen" is int32, must be timestamp[us, tz=UTC]',
        ),
        (
            "    agent_id,\n",
            "    min(event_time) AS agent_id,\n",
            'denied/rule.sql:1: identity "agent_id" is a time: an id cannot hold it',
        ),
        (
            "    agent_id,\n",
            "    sum(0.5::DOUBLE) AS agent_id,\n",
            'denied/rule.sql:1: identity "agent_id" is a fraction; cast it to text',
        ),
        (
            "    agent_id,\n",
            "    agent_id, 1 AS dup, 2 AS dup,\n",
            'denied/rule.sql:1: the column "dup" comes twice',
        ),
        ("SELECT", "SELEC", 'denied/rule.sql:1: syntax error at or near "SELEC"'),
    ],
)
def test_a_fault_in_the_sql_names_its_line(tmp_path, old, new, fault):
    assert faults(tmp_path, SQL.replace(old, new, 1)) == [fault]


@pytest.mark.parametrize("sql", ["", "SELECT 1; SELECT 2", "DELETE FROM tool_calls"])
def test_a_file_must_hold_one_select(tmp_path, sql):
    (fault,) = faults(tmp_path, sql)

    assert "must be one SELECT" in fault


def test_a_parameter_or_table_declared_in_vain_is_a_fault(tmp_path):
    found = faults(tmp_path, tables='["tool_calls", "hops"]', extra=COUNT)

    assert found == [
        'denied/rule.toml:24: parameter "n" is used by no statement',
        'denied/rule.toml:15: needs.tables names "hops", which no statement reads',
    ]


def test_a_view_that_does_not_exist_is_a_fault_of_the_toml(tmp_path):
    assert faults(tmp_path, tables='["tool_cals"]') == [
        'denied/rule.toml:15: there is no view "tool_cals"; did you mean "tool_calls"?'
    ]


def test_count_and_graph_are_bound_too(tmp_path):
    folder = write_rule(tmp_path, tables='["tool_calls", "hops"]')
    (folder / "count.sql").write_text("SELECT count(*) FROM tool_calls WHERE nothing = 1")
    (folder / "graph.sql").write_text("SELECT * FROM hops WHERE child_key = $credential_key")

    found = [str(error) for error in check_rule(read_rule(folder))]

    assert found == ['denied/count.sql:1: column "nothing" does not exist']


def test_rules_are_checked_against_the_columns_that_the_lake_shows(tmp_path):
    with open_lake(str(tmp_path / "lake"), create=True).connect(comments=False) as con:
        register_policy(con, load_registry(None))
        for name, schema in view_schemas().items():
            if name.startswith("reg_") or name in {"rule_watermarks", "event_marks"}:
                continue
            if name == "publications":
                continue
            shown = con.sql(f"SELECT * FROM {name}").to_arrow_table().schema
            assert sorted(shown.names) == sorted(schema.names), name


@pytest.mark.parametrize("sql", ["SELECT 1, 2", "SELECT 'many'", "SELECT 0.5::DOUBLE"])
def test_a_count_that_is_no_number_of_things_is_a_fault(tmp_path, sql):
    folder = write_rule(tmp_path)
    (folder / "count.sql").write_text(f"{sql} FROM tool_calls")

    (fault,) = check_rule(read_rule(folder))

    assert str(fault) == "denied/count.sql:1: must return one whole number"
