"""Check rule folders without data: keys, SQL against the views, cases, and what Spark can read.

Takes a folder; leaves every fault with file and line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.detections.check import check_rule
from pipeline.detections.portable import spark_faults
from pipeline.detections.rule import Rule, read_rule
from pipeline.detections.testing import read_cases
from pipeline.errors import RuleError, RuleErrors

if TYPE_CHECKING:
    from pathlib import Path


def lint_folder(folder: Path) -> tuple[list[RuleError], int]:
    """Return the faults of the rule in a folder, or of all rules right below it, and their number.

    A folder without any rule is a fault.
    """
    folders = [folder] if (folder / "rule.toml").is_file() else _below(folder)
    if not folders:
        return [RuleError(str(folder), 1, "there is no rule.toml here, nor in a folder below")], 0
    return [fault for one in folders for fault in lint_rule(one)], len(folders)


def _below(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/rule.toml"))


def lint_rule(folder: Path) -> list[RuleError]:
    """Return every fault of one rule folder."""
    try:
        rule = read_rule(folder)
    except RuleErrors as error:
        return error.errors
    return [*check_rule(rule), *_case_faults(rule), *spark_faults(rule)]


def _case_faults(rule: Rule) -> list[RuleError]:
    try:
        cases = read_cases(rule)
    except RuleError as error:
        return [error]
    faults = []
    if not any(case.is_firing for case in cases):
        faults.append(RuleError(rule.file("cases"), 1, "no story fires"))
    if all(case.is_firing for case in cases):
        faults.append(RuleError(rule.file("cases"), 1, "no story is a benign twin"))
    return faults
