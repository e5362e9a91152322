"""`delegraph rules`: list them, run their cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import say
from pipeline.cli.options import ManyValues, finish, json_option, with_config
from pipeline.cli.output import listing, write, write_json
from pipeline.detections.check import load_rules
from pipeline.detections.testing import read_cases, run_cases
from pipeline.errors import RuleError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.detections.rule import Rule

EXIT_FAILED = 3
SHOWN = ("code", "severity", "kind", "maturity", "id", "title")
folders_option = click.option(
    "--rules", "folders", multiple=True, metavar="DIR", help="Folders of own rules."
)


@click.group()
def command() -> None:
    """List and test the detection rules."""


@command.command(cls=ManyValues)
@folders_option
@json_option
@with_config
def ls(config: Config, folders: tuple[str, ...], as_json: bool) -> None:
    """List the rules, ours and those of the folders."""
    rows = [{name: getattr(rule, name) for name in SHOWN} for rule in _rules(config, folders)]
    if as_json:
        write_json(listing("rules", None, rows, None))
    else:
        write("table", SHOWN, rows)


@command.command(cls=ManyValues)
@click.argument("names", nargs=-1)
@folders_option
@with_config
def test(config: Config, names: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """Run the cases of all rules, or of the rules (ids or codes) NAMES.

    Each story goes through the real road in order, shuffled and duplicated.
    Exits 3 when one did not come out as expected.
    """
    failed, cases = 0, []
    for rule in _rules(config, folders, names):
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


def _rules(config: Config, folders: tuple[str, ...], only: tuple[str, ...] = ()) -> list[Rule]:
    return load_rules(map(Path, (*config.detect.rules, *folders)), only=only or None)
