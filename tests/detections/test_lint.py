"""Every fault of a rule folder at once, each with its file."""

from __future__ import annotations

import json

import pytest

from pipeline.detections.lint import lint_folder
from tests.detections.folders import SQL, write_rule
from tests.factories import tool_call


def with_cases(folder, *expectations):
    (folder / "cases").mkdir()
    for number, expect in enumerate(expectations):
        lines = [json.dumps({"expect": expect}), json.dumps(tool_call())]
        (folder / "cases" / f"{number}.jsonl").write_text("\n".join(lines))
    return folder


def faults(folder):
    return [str(fault) for fault in lint_folder(folder)[0]]


def test_a_rule_with_stories_that_fire_and_stories_that_do_not_is_faultless(tmp_path):
    folder = with_cases(write_rule(tmp_path), [], [{"agent_id": "a"}])

    assert faults(folder) == faults(tmp_path) == []
    assert lint_folder(tmp_path)[1] == 1


@pytest.mark.parametrize(
    ("expectations", "sql", "fault"),
    [
        ([[]], SQL, "denied/cases:1: no story fires"),
        ([[{"agent_id": "a"}]], SQL, "denied/cases:1: no story is a benign twin"),
        (
            [[], [{"agent_id": "a"}]],
            SQL.replace("outcome = 'denied'", "outcom = 'denied'"),
            'denied/rule.sql:9: column "outcom" does not exist; did you mean "outcome"?',
        ),
    ],
)
def test_each_fault_names_its_file(tmp_path, expectations, sql, fault):
    folder = with_cases(write_rule(tmp_path, sql=sql), *expectations)

    assert faults(folder) == [fault]


def test_what_spark_cannot_say_is_a_fault(tmp_path):
    sql = SQL.replace("SELECT\n", "SELECT\n    arg_max(tool_name, event_time, 2) AS newest,\n")
    folder = with_cases(write_rule(tmp_path, sql=sql), [], [{"agent_id": "a"}])

    (fault,) = faults(folder)
    assert fault.startswith("denied/rule.sql:2: Spark gives one value")


def test_a_folder_without_a_rule_is_a_fault(tmp_path):
    (fault,) = faults(tmp_path)

    assert "there is no rule.toml here" in fault
