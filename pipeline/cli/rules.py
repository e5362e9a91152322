"""`delegraph rules`: list them, run their cases, check a folder, try a change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import say
from pipeline.cli.detect import refuse_unknown
from pipeline.cli.impact import impact
from pipeline.cli.options import ManyValues, finish, json_option, with_config
from pipeline.cli.output import listing, write, write_json
from pipeline.detections.check import load_rules
from pipeline.detections.lint import lint_folder
from pipeline.detections.rule import CODE_FAMILIES, MAPPINGS, read_rules, taxonomies
from pipeline.detections.testing import read_cases, run_cases
from pipeline.errors import RuleError, RuleErrors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.config import Config
    from pipeline.detections.rule import Rule

EXIT_FAILED = 3
MATURITIES = ("experimental", "stable")
SHOWN = ("code", "severity", "kind", "maturity", "firing", "quiet", "id", "title")
_COLUMNS = (
    "code",
    "id",
    "title",
    "version",
    "family",
    "severity",
    "kind",
    "maturity",
    "owner_role",
    "every_s",
    "grace_s",
)
folders_option = click.option(
    "--rules", "folders", multiple=True, metavar="DIR", help="Folders of own rules."
)


@click.group()
def command() -> None:
    """List, test, lint and try the detection rules."""


command.add_command(impact)


@command.command(cls=ManyValues)
@folders_option
@click.option("--family", multiple=True, type=click.Choice(CODE_FAMILIES), help="These families.")
@click.option("--maturity", type=click.Choice(MATURITIES), help="Stable ones, or experimental.")
@json_option
@with_config
def ls(
    *,
    config: Config,
    folders: tuple[str, ...],
    family: tuple[str, ...],
    maturity: str | None,
    as_json: bool,
) -> None:
    """List the rules, ours and those of the folders, with the number of their cases.

    --json adds the mappings to the catalogues, each code with its title.
    """
    rules, faults = read_rules(map(Path, (*config.detect.rules, *folders)))
    if faults:
        raise RuleErrors(faults)
    chosen = [
        rule
        for rule in rules
        if (not family or rule.family in family) and maturity in (None, rule.maturity)
    ]
    if as_json:
        write_json(listing("rules", None, [_described(rule) for rule in chosen], None))
    else:
        write("table", SHOWN, [_described(rule) | _cases(rule) for rule in chosen])


def _described(rule: Rule) -> dict[str, Any]:
    return {
        **{name: getattr(rule, name) for name in _COLUMNS},
        "maturity_reason": rule.maturity_reason or None,
        "tables": list(rule.tables),
        "sources": list(rule.sources),
        "parameters": {
            name: {"type": p.kind, "default": p.default, "reason": p.reason}
            for name, p in rule.parameters.items()
        },
        "mappings": {
            name: [
                {"code": code, "title": taxonomies()[name][code]} for code in rule.mappings[name]
            ]
            for name in MAPPINGS
        },
        "cases": _cases(rule),
    }


def _cases(rule: Rule) -> dict[str, int]:
    """Return how many stories fire and how many are benign; only their first lines are read."""
    firing = 0
    for path in rule.cases:
        with path.open(encoding="utf-8") as lines:
            try:
                firing += bool(json.loads(next(lines, "{}")).get("expect"))
            except (ValueError, AttributeError):
                raise RuleError(rule.file(f"cases/{path.name}"), 1, "not a JSON object") from None
    return {"firing": firing, "quiet": len(rule.cases) - firing}


@command.command()
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@with_config
def lint(config: Config, folder: Path) -> None:
    """Check the rule in DIR, or every rule below it: keys, SQL, columns, cases, Spark.

    Every fault is named with file and line.  Exits 3 when there is one.
    """
    del config
    faults, checked = lint_folder(folder.resolve())
    for fault in faults:
        click.echo(str(fault))
    say(f"{checked} rule(s) checked, {len(faults)} fault(s)")
    finish(EXIT_FAILED if faults else 0)


@command.command(cls=ManyValues)
@click.argument("names", nargs=-1)
@folders_option
@with_config
def test(config: Config, names: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """Run the cases of all rules, or of the rules (ids or codes) NAMES.

    Each story goes through the real road in order, shuffled and duplicated.
    Exits 3 when one did not come out as expected, 2 when there is no such rule.
    """
    failed, cases = 0, []
    for rule in _named(map(Path, (*config.detect.rules, *folders)), names):
        try:
            cases += read_cases(rule)
        except RuleError as error:
            failed += 1
            click.echo(f"FAILED  {rule.code}  {rule.id}: {error}")
    for outcome in run_cases(cases):
        failed += bool(outcome.problems)
        state, rule = "FAILED" if outcome.problems else "ok", outcome.case.rule
        click.echo(f"{state:6}  {rule.code}  {rule.id}  {outcome.case.name}")
        for problem in outcome.problems:
            click.echo(f"        {problem}")
    say(f"{failed} failed" if failed else "all cases came out as expected")
    finish(EXIT_FAILED if failed else 0)


def _named(folders: Iterable[Path], names: Sequence[str]) -> list[Rule]:
    """Return the rules of these names, or all, checked.

    Raises:
        ConfigError: no rule bears such a name.
        RuleErrors: every fault of every rule.
    """
    try:
        return load_rules(folders, only=names or None)
    except RuleErrors as error:
        refuse_unknown(error.errors)
        raise
