"""A module fits a reader's head, a function one screen."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("jobs/**/*.py")])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_over_500_lines_and_no_function_over_60(path):
    source = path.read_text(encoding="utf-8")
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert source.count("\n") <= 500
    assert [f.name for f in functions if f.end_lineno - f.lineno >= 60] == []
