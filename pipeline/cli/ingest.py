"""`delegraph ingest`: Kafka or files into the lake."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from pipeline.cli import log_from, say
from pipeline.cli.options import ManyValues, json_option, the_lake, with_config
from pipeline.cli.output import write_json
from pipeline.ingest.run import (
    Control,
    IngestReport,
    ingest_files,
    ingest_topics,
    stop_on_signals,
)
from pipeline.ingest.sources import adapter_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.config import Config
    from pipeline.lake import Lake


@click.command(
    cls=ManyValues,
    epilog="Example: delegraph ingest --from logs/*.json.gz --adapter cloudtrail --lake ./lake",
)
@click.option(
    "--from", "files", multiple=True, metavar="FILE...", help="Files or folders instead of Kafka."
)
@click.option(
    "--adapter",
    type=click.Choice(adapter_names()),
    default="native",
    show_default=True,
    help="What the files hold; topics have theirs in the configuration.",
)
@click.option("--once", is_flag=True, help="End with what is there now.")
@click.option("--tenant", default="default", show_default=True, help="Tenant of vendor records.")
@json_option
@with_config
def command(
    *, config: Config, files: tuple[str, ...], adapter: str, once: bool, tenant: str, as_json: bool
) -> None:
    """Take events into the lake, each exactly once.

    From files it ends with them, and the same content again adds nothing.
    From Kafka it goes on until SIGTERM, or with --once until the end of what is there.
    """
    lake = the_lake(config, create=True)
    if files:
        report = ingest_files(files, adapter=adapter, sink=lake, tenant=tenant)
    else:
        log_from("INFO")
        with stop_on_signals() as stop:
            control = Control(once, stop, marking(lake, config.chains.mark_every_s))
            report = ingest_topics(
                config.kafka, lake, limits=config.ingest, tenant=tenant, control=control
            )
    lake.mark_events()
    tell(report)
    if as_json:
        write_json(summary(report))


def marking(lake: Lake, every_s: float) -> Callable[[IngestReport], None]:
    """Return a callback that marks duplicates now and then while events stream in."""
    last = time.monotonic()

    def mark(_: IngestReport) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            lake.mark_events()
            last = time.monotonic()

    return mark


def summary(report: IngestReport) -> dict[str, object]:
    """Return the report as JSON-ready values."""
    return {
        "records": report.records,
        "rows": dict(report.rows),
        "dead_letters": report.dead_letters,
        "elapsed_s": round(report.elapsed_s, 3),
        "notes": list(report.notes),
    }


def tell(report: IngestReport) -> None:
    """Say in a line what was done, and what a person should know."""
    rows = ", ".join(f"{count} {table}" for table, count in sorted(report.rows.items()) if count)
    say(f"stored {report.records} records ({rows or 'nothing new'}) in {report.elapsed_s:.1f} s")
    for note in report.notes:
        say(f"note: {note}")
    if report.dead_letters:
        say("next: delegraph dead-letters ls")
