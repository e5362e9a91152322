"""Every rule, ours and the template: complete, bound to the views, portable, true to its cases."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlglot

from pipeline.detections import rule as rule_module
from pipeline.detections.check import check_rule
from pipeline.detections.rule import RULES, find_rules, read_rule
from pipeline.detections.testing import read_cases, run_cases

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
    assert all(code.startswith("ASI") for code in mappings["owasp_asi"])
    assert all(code.startswith("NHI") for code in mappings["owasp_nhi"])
    assert all(code.startswith("T") for code in mappings["attack"])
    assert all(code.startswith("AML.") for code in mappings["atlas"])


@each_rule
def test_a_rule_s_sql_can_be_said_in_spark(folder):
    """It must parse and transpile; whether it means the same is measured elsewhere."""
    for sql in read_rule(folder).sql.values():
        (spark,) = sqlglot.transpile(
            sql, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE
        )
        assert spark


def test_no_two_rules_share_a_code():
    codes = [read_rule(folder).code for folder in FOLDERS]

    assert len(codes) == len(set(codes))


@each_rule
def test_a_rule_s_cases_come_out_as_they_say(folder):
    """In order, shuffled and with every event twice."""
    outcomes = run_cases(read_cases(read_rule(folder)))

    assert {o.case.path.name: o.problems for o in outcomes if o.problems} == {}
