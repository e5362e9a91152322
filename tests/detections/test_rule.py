"""rule.toml: what it may say, and where a fault stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.detections import rule as rule_module
from pipeline.detections.check import load_rules
from pipeline.detections.rule import read_rule, read_rules
from pipeline.errors import RuleErrors
from tests.detections.folders import make_rule, write_rule

TEMPLATE = Path(rule_module.__file__).parent / "template"


def faults(folder):
    with pytest.raises(RuleErrors) as caught:
        read_rule(folder)
    return [(e.file, e.line, e.message) for e in caught.value.errors]


def test_the_template_is_a_rule():
    rule = read_rule(TEMPLATE)

    assert (rule.code, rule.major, rule.severity) == ("GO-99", 1, 2)
    assert rule.parameters["denied_min"].default == 3
    assert [case.name for case in rule.cases] == ["fires.jsonl", "quiet.jsonl"]


@pytest.mark.parametrize(
    ("over", "line", "message"),
    [
        ({"severty": 3}, 14, 'unknown key "severty"; did you mean "severity"?'),
        ({"severity": '"high"'}, 7, '"severity" must be a whole number'),
        ({"severity": 6}, 7, '"severity" must be 1 (info) to 5 (critical)'),
        ({"severity": None}, 1, 'the key "severity" is missing'),
        ({"id": '"other"'}, 1, '"id" must be the folder\'s name in snake_case, denied'),
        ({"code": '"PC-01"'}, 2, '"code" must be the family and two digits, as GO-01'),
        ({"version": '"1"'}, 4, '"version" must be major.minor.patch'),
        ({"kind": '"sometimes"'}, 8, '"kind" is "sometimes", not one of presence, absence'),
        (
            {"maturity": '"experimental"'},
            6,
            'an experimental rule must say why: "maturity_reason"',
        ),
        (
            {"owner_role": '"app"'},
            14,
            '"owner_role" is "app", not one of application, iam, platform',
        ),
        (
            {"maturity": '"stabl"'},
            6,
            '"maturity" is "stabl", not one of experimental, stable; did you mean "stable"?',
        ),
        ({"sources": "5"}, 16, '"sources" must be a list of texts'),
        ({"sources": "[5]"}, 16, '"sources" must be a list of texts'),
        (
            {"extra": '[parameters.n]\ntype = ["integer"]\ndefault = 1\nreason = "r"'},
            24,
            'parameter "n" has no type among integer, number, text, boolean, texts',
        ),
        ({"identity": "[]"}, 10, '"identity" must name at least one column'),
        ({"identity": "[1]"}, 10, '"identity" must be a list of texts'),
        ({"runbook": '["Look."]'}, 13, '"runbook" must have two or three steps'),
        (
            {"sources": '["tool_calls"]'},
            16,
            'unknown family "tool_calls"; did you mean "tool_call"?',
        ),
        (
            {"extra": "[window]\nevery = 3"},
            25,
            'unknown key "every" in [window]; did you mean "every_s"?',
        ),
        ({"extra": "[window]\ngrace_s = -1"}, 25, '"grace_s" must be a whole number of seconds'),
        (
            {"extra": '[parameters.n]\ntype = "integer"\ndefault = 1.5\nreason = "r"'},
            24,
            'the default of "n" is not of type integer',
        ),
        (
            {"extra": '[parameters.n]\ntype = "int"\ndefault = 1\nreason = "r"'},
            24,
            'parameter "n" has no type among integer, number, text, boolean, texts',
        ),
        (
            {"extra": "[parameters.n]\ndefault = 1"},
            24,
            'parameter "n" must have exactly type, default, reason',
        ),
        (
            {"extra": '[parameters.as_of]\ntype = "integer"\ndefault = 1\nreason = "r"'},
            24,
            "$as_of is bound by the engine; choose another name",
        ),
    ],
)
def test_a_fault_names_its_line_and_the_nearest_right_name(tmp_path, over, line, message):
    assert faults(write_rule(tmp_path, **over)) == [("denied/rule.toml", line, message)]


def test_several_faults_come_together(tmp_path):
    assert len(faults(write_rule(tmp_path, severity=9, kind='"x"', version='"x"'))) == 3


def test_faults_of_other_keys_come_with_a_missing_and_a_mistyped_one(tmp_path):
    over = {"severity": None, "runbook": '"Look."', "version": '"1"', "needs": None}

    found = [message for _, _, message in faults(write_rule(tmp_path, **over, code='"XX-1"'))]

    assert found == [
        '"runbook" must be a list',
        'the key "severity" is missing',
        '"code" must be the family and two digits, as GO-01',
        '"version" must be major.minor.patch',
    ]


@pytest.mark.parametrize("name", ["rule.toml", "rule.sql", "count.sql"])
def test_a_file_that_is_no_text_is_a_fault_of_its_rule_and_no_other_s(tmp_path, name):
    make_rule(tmp_path, "sound")
    folder = write_rule(tmp_path)
    (folder / name).write_bytes(b"-- fine\n-- \xff\n")

    rules, errors = read_rules([tmp_path])

    assert [str(error) for error in errors] == [f"denied/{name}:2: not UTF-8: byte 0xff"]
    assert "sound" in {rule.id for rule in rules}


def test_an_absence_rule_must_wait_for_something(tmp_path):
    found = faults(write_rule(tmp_path, kind='"absence"'))

    assert [message for _, _, message in found] == [
        "an absence rule must name the sources that it waits for",
        "an absence rule must read rule_watermarks",
    ]


def test_broken_toml_is_a_fault_with_its_line(tmp_path):
    folder = write_rule(tmp_path)
    (folder / "rule.toml").write_text('id = "denied"\ncode = \n')

    ((file, line, _),) = faults(folder)
    assert (file, line) == ("denied/rule.toml", 2)


def test_a_folder_without_sql_is_no_rule(tmp_path):
    folder = write_rule(tmp_path)
    (folder / "rule.sql").unlink()

    assert faults(folder) == [("denied/rule.toml", 1, "there is no rule.sql beside it")]


def test_rules_of_another_folder_come_with_ours(tmp_path):
    make_rule(tmp_path, "my_own_rule")

    (rule,) = load_rules([tmp_path], only=["my_own_rule"])

    assert rule.id == "my_own_rule"


def test_a_rule_name_that_nobody_has_is_a_fault(tmp_path):
    make_rule(tmp_path, "my_own_rule")

    with pytest.raises(RuleErrors, match='no rule "my_own_rul"; did you mean "my_own_rule"'):
        load_rules([tmp_path], only=["my_own_rul"])


def test_a_folder_of_rules_that_is_not_there_is_a_fault(tmp_path):
    with pytest.raises(RuleErrors, match="no such folder"):
        read_rules([tmp_path / "nowhere"])


def test_two_rules_cannot_have_one_id(tmp_path):
    make_rule(tmp_path / "a", "same")
    make_rule(tmp_path / "b", "same")

    _, errors = read_rules([tmp_path / "a", tmp_path / "b"])

    assert [error.message for error in errors] == [f"rule id already in {tmp_path / 'a' / 'same'}"]
