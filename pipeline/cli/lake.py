"""`delegraph lake`: maintenance and description."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from pipeline.cli import say
from pipeline.cli.options import MOMENT, finish, json_option, the_lake, with_config
from pipeline.cli.output import plain, rows_of, write, write_json
from pipeline.lake.query import run_select

if TYPE_CHECKING:
    from pipeline.config import Config

EXIT_PROBLEMS = 2


@click.group()
def command() -> None:
    """Compact, expire, verify, describe the lake."""


@command.command()
@with_config
def compact(config: Config) -> None:
    """Merge small files and delete what no reader needs any more."""
    lake = the_lake(config)
    compacted = lake.compact()
    deleted = lake.vacuum()
    write_json({"compacted": [plain(vars(done)) for done in compacted], "deleted_files": deleted})


@command.command()
@click.option("--before", type=MOMENT, metavar="TIME", help="Forget events of earlier days.")
@with_config
def expire(config: Config, before: datetime | None) -> None:
    """Forget old events: those before --before, or older than lake.keep_days."""
    if before is None and not config.lake.keep_days:
        raise click.UsageError("nothing says how old: --before TIME, or lake.keep_days")
    limit = before or datetime.now(UTC) - timedelta(days=config.lake.keep_days)
    gone = the_lake(config).expire(limit.date())
    say("next: delegraph chains build")
    write_json({"before": limit.date(), "files": gone})


@command.command()
@with_config
def verify(config: Config) -> None:
    """Check that what is stored is whole: offsets, files, versions."""
    verified = the_lake(config).verify()
    held = [dataclasses.asdict(part) for part in verified.held]
    write_json({**vars(verified), "held": held})
    for problem in verified.problems:
        say(f"problem: {problem}")
    finish(EXIT_PROBLEMS if verified.problems else 0)


@command.command()
@json_option
@with_config
def schema(config: Config, as_json: bool) -> None:
    """List the views, their columns and what these mean."""
    table = run_select(the_lake(config), "FROM help()")
    write("json" if as_json else "table", table.column_names, rows_of(table))
