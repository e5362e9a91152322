"""`delegraph detect`: run the rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import say
from pipeline.cli.coverage import incomplete_sources, say_completeness, short_of
from pipeline.cli.findings import short
from pipeline.cli.options import (
    MOMENT,
    ManyValues,
    as_of_option,
    finish,
    json_option,
    the_lake,
    the_registry,
    with_registry,
)
from pipeline.cli.output import listing, rows_of, write, write_json
from pipeline.detections.ledger import Window
from pipeline.detections.parameters import override
from pipeline.detections.rule import RULES, find_rules, read_rules
from pipeline.detections.run import catch_up, run_detections
from pipeline.errors import ConfigError, RuleErrors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pipeline.config import Config
    from pipeline.detections.rule import Rule
    from pipeline.detections.run import DetectReport
    from pipeline.errors import RuleError

SHOWN = ("severity", "rule_code", "title", "entity", "finding_id")
EXIT_FINDINGS, EXIT_FAILED = 1, 3


@click.command(cls=ManyValues, epilog="Example: delegraph detect --from 7d --fail-on 4")
@click.option("--from", "start", type=MOMENT, metavar="TIME", help="Start of the window.")
@click.option("--to", "end", type=MOMENT, metavar="TIME", help="End of the window, left out.")
@click.option(
    "--catch-up", "is_catching_up", is_flag=True, help="Every window that is not done: for jobs."
)
@click.option("--since", type=MOMENT, metavar="TIME", help="Where --catch-up begins.")
@click.option("--rules", "folders", multiple=True, metavar="DIR", help="Folders of own rules.")
@click.option("--only", multiple=True, metavar="RULE", help="Rule ids or codes to run.")
@click.option(
    "--fail-on", type=click.IntRange(1, 5), help="Exit 1 when a finding is as severe or worse."
)
@click.option(
    "--require-coverage",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exit 5 when a smaller share of calls is linked to a credential.",
)
@as_of_option
@json_option
@with_registry
def command(
    *,
    config: Config,
    start: datetime | None,
    end: datetime | None,
    is_catching_up: bool,
    since: datetime | None,
    folders: tuple[str, ...],
    only: tuple[str, ...],
    fail_on: int | None,
    require_coverage: float | None,
    as_of: datetime,
    as_json: bool,
) -> None:
    """Run every rule over a window of event time; print its open findings.

    With --catch-up the windows are those of the rules, as the run ledger knows them:
    every one that was missed or failed, oldest first, and the one that is open.

    Says how complete the data behind them is, and which sources lag or are silent.

    Exits 3 when a rule failed (the others have run), 1 by --fail-on, 5 by --require-coverage.
    """
    lake, registry = the_lake(config), the_registry(config)
    rules, faults = _runnable(config, (*config.detect.rules, *folders), only)
    if is_catching_up and (start or end):
        raise click.UsageError("--catch-up knows its windows: give --since instead of --from, --to")
    if since and not is_catching_up:
        raise click.UsageError("--since belongs to --catch-up")
    if is_catching_up:
        report = catch_up(lake, registry, rules=rules, now=as_of, since=since)
    else:
        window = Window(start, end)
        report = run_detections(lake, registry, rules=rules, window=window, now=as_of)
    report.failed.extend(faults)
    rows = [row for row in rows_of(report.findings) if row["status"] == "open"]
    rows.sort(key=lambda row: (-row["severity"], row["rule_code"], row["finding_id"]))
    envelope = listing("findings", lake, rows, None)
    incomplete = incomplete_sources(lake, registry, as_of)
    if as_json:
        failed = [str(error) for error in report.failed]
        more = {"failed": failed, "skipped": report.skipped, "incomplete_sources": incomplete}
        write_json(envelope | more)
    else:
        write("table", SHOWN, [short(row) for row in rows])
    code = verdict(report, [row["severity"] for row in rows], fail_on)
    say_completeness(envelope["coverage"], incomplete)
    finish(code or short_of(envelope["coverage"]["linked"], require_coverage))


def rules_to_run(folders: Sequence[str], only: Sequence[str] = ()) -> list[Rule]:
    """Return our rules and those of the folders.

    Their SQL is not checked here, which takes seconds: `rules test` does it, and a
    rule that cannot run is a failed run.

    Raises:
        ConfigError: an unknown rule was named.
        RuleErrors: every rule folder that cannot be read.
    """
    rules, faults = read_rules(map(Path, folders), only=only or None)
    refuse_unknown(faults)
    if faults:
        raise RuleErrors(faults)
    return rules


def _runnable(
    config: Config, folders: Sequence[str], only: Sequence[str]
) -> tuple[list[Rule], list[RuleError]]:
    """Return the rules that can be read, and the faults of the others.

    One folder that cannot be read must not silence all rules; the run fails in the end.

    Raises:
        ConfigError: an unknown rule was named.
        RuleErrors: two rules have one id, or none can be read.
    """
    rules, faults = read_rules(map(Path, folders), only=only or None)
    refuse_unknown(faults)
    if faults and (only or not rules or len({rule.id for rule in rules}) < len(rules)):
        raise RuleErrors(faults)
    return overridden(config, rules, folders), faults


def refuse_unknown(faults: Sequence[RuleError]) -> None:
    """Tell a name that no rule bears from a rule that failed: it is a slip of who typed it.

    Raises:
        ConfigError: it names each, with the nearest right one.
    """
    unknown = [fault.message for fault in faults if fault.file == "rules"]
    if unknown:
        raise ConfigError("\n".join(unknown))


def overridden(config: Config, rules: Sequence[Rule], folders: Sequence[str]) -> list[Rule]:
    """Return the rules with the values of `[detect.parameters]`.

    Raises:
        ConfigError: it names a rule or a parameter that does not exist.
    """
    known = {path.name for path in find_rules([RULES, *map(Path, folders)])}
    return override(rules, config.detect.parameters, known | {rule.id for rule in rules})


def verdict(report: DetectReport, severities: list[int], fail_on: int | None) -> int:
    """Say what a person should know; return the exit code."""
    ran = len(set(report.runs["rule_id"].to_pylist()))
    say(f"{ran} rules ran, {len(severities)} findings are open")
    for error in report.failed:
        say(f"error: {error}")
    if report.failed:
        return EXIT_FAILED
    return EXIT_FINDINGS if fail_on and max(severities, default=0) >= fail_on else 0
