"""Every rule, ours and the template: complete, bound to the views, portable, true to its cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.detections import rule as rule_module
from pipeline.detections.check import check_rule
from pipeline.detections.portable import spark_faults
from pipeline.detections.rule import RULES, find_rules, read_rule
from pipeline.detections.testing import group_cases, read_cases, run_cases

TEMPLATE = Path(rule_module.__file__).parent / "template"
FOLDERS = [TEMPLATE, *(find_rules([RULES]) if RULES.is_dir() else [])]

each_rule = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_every_folder_below_rules_is_a_rule():
    strays = {path.name for path in RULES.iterdir() if path.is_dir() and path.name[0] != "_"}

    assert strays == {folder.name for folder in FOLDERS if folder != TEMPLATE}


@each_rule
def test_a_rule_binds_to_the_views_that_it_declares(folder):
    assert [str(error) for error in check_rule(read_rule(folder))] == []


@each_rule
def test_a_rule_has_a_firing_case_and_a_benign_twin(folder):
    cases = read_cases(read_rule(folder))

    assert any(case.is_firing for case in cases)
    assert any(not case.is_firing for case in cases)


@each_rule
def test_a_rule_says_what_it_examined(folder):
    assert "count.sql" in read_rule(folder).sql


@each_rule
def test_a_rule_maps_to_the_catalogues(folder):
    mappings = read_rule(folder).mappings

    assert mappings["owasp_asi"]
    assert mappings["owasp_nhi"]
    assert mappings["maestro"]
    assert mappings["nist_govern"]


@each_rule
def test_a_rule_s_sql_can_be_said_in_spark(folder):
    """It must translate; whether it means the same there is for tests/integration/test_spark.py."""
    assert [str(fault) for fault in spark_faults(read_rule(folder))] == []


def test_no_two_rules_share_a_code():
    codes = [read_rule(folder).code for folder in FOLDERS]

    assert len(codes) == len(set(codes))


GROUPS = group_cases([case for folder in FOLDERS for case in read_cases(read_rule(folder))])


@pytest.mark.parametrize(
    "group", GROUPS, ids=lambda group: f"{group[0].rule.id}-{group[0].path.stem}-{len(group)}"
)
def test_cases_come_out_as_they_say(group):
    """In order, shuffled and with every event twice; cases of one registry share a lake."""
    problems = {
        f"{outcome.case.rule.id}/{outcome.case.path.name}": outcome.problems
        for outcome in run_cases(group)
        if outcome.problems
    }

    assert problems == {}
