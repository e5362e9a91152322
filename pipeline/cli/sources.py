"""`delegraph sources`: which formats are read, a sample of each, and what a file would give."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import say
from pipeline.cli.options import ADAPTER, finish, instance_option, json_option, with_config
from pipeline.cli.output import listing, write, write_json
from pipeline.config import YAML_ENDINGS
from pipeline.errors import ConfigError, SourceError
from pipeline.events.schema import FAMILIES
from pipeline.ingest.declared import load_declared
from pipeline.ingest.declared_check import check_adapter, check_recognised
from pipeline.ingest.file_records import read_records
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import Context, adapter_names, load_adapter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config import Config
    from pipeline.ingest.declared_check import DeclaredReport

SHOWN = ("source", "families", "sample", "reads")
EXIT_REFUSED = 1


@click.group()
def command() -> None:
    """List the formats that are read, print samples, try a file before it is ingested."""


@command.command()
@json_option
@with_config
def ls(*, config: Config, as_json: bool) -> None:
    """List the sources: the rows they give, the records in their sample, what they read."""
    rows = [_described(name, name) for name in adapter_names()]
    rows += [_described(path, path) for path in config.ingest.sources]
    if as_json:
        write_json(listing("sources", None, rows, None))
        return
    write("table", SHOWN, [row | {"families": ", ".join(row["families"])} for row in rows])


@command.command(epilog="Example: delegraph sources sample cloudtrail > trail.json")
@click.argument("name", type=click.Choice(adapter_names()))
def sample(name: str) -> None:
    """Print the sample of a source: a small story in the vendor's form, made by us."""
    path = sample_path(name)
    if path is None:
        raise SourceError(f"{name} has no sample")
    click.echo(path.read_bytes(), nl=False)


@command.command(
    epilog="Example: delegraph sources check gateway.yaml gateway.log; "
    "delegraph sources check audit.log --adapter kubernetes_audit"
)
@click.argument("files", nargs=-1, required=True, metavar="[FILE.yaml] SAMPLE...")
@click.option(
    "--adapter", type=ADAPTER, default=AUTO, metavar="NAME", help="What the samples are [auto]."
)
@instance_option
@json_option
@with_config
def check(
    *, config: Config, files: tuple[str, ...], adapter: str, instance: str | None, as_json: bool
) -> None:
    """Say what an adapter would make of sample files; store nothing.

    A YAML file in front is an adapter of your own: its faults are named by line, and
    the fields that no record filled.  Exits 1 when a record is refused, 2 when the
    YAML file is at fault.
    """
    context = Context(
        instance=instance, adapters=config.ingest.sources, received_at=datetime.now(UTC)
    )
    reports = _check(files, adapter, context)
    if as_json:
        items = [asdict(report) | {"ok": report.ok} for report in reports]
        write_json(listing("sources_check", None, items, None))
    else:
        for report in reports:
            _tell(report)
    finish(0 if reports and all(report.ok for report in reports) else EXIT_REFUSED)


def _check(files: Sequence[str], adapter: str, context: Context) -> list[DeclaredReport]:
    first, *rest = files
    if first.endswith(YAML_ENDINGS):
        if not rest:
            raise click.UsageError("name a sample behind the YAML file")
        adapter, files = first, rest
    elif first in adapter_names() and rest and not Path(first).exists():
        raise click.UsageError(f"a source of ours is named behind the samples: --adapter {first}")
    if adapter.endswith(YAML_ENDINGS):
        return [_check_own(adapter, files, context)]
    if adapter == AUTO:
        return check_recognised(files, context)
    return [check_adapter(adapter, load_adapter(adapter), files, context=context)]


def _check_own(file: str, samples: Sequence[str], context: Context) -> DeclaredReport:
    try:
        own = load_declared(file)
    except SourceError as error:
        # The file is what is being checked: a fault of it is no source that is down.
        raise ConfigError(str(error)) from None
    return check_adapter(own.name, own, samples, own.declared_fields(), context)


def _described(name: str, shown: str) -> dict[str, Any]:
    source = load_adapter(name)
    path = sample_path(name)
    values = [] if path is None else list(read_records(path, source.WRAPPER))
    kept = [value for value in values if isinstance(value, bytes)]
    found = {batch.family for batch in source.adapt(kept, Context()).batches} if kept else set()
    return {
        "source": shown,
        "families": [family for family in FAMILIES if family in found],
        "sample": len(values),
        "reads": (source.__doc__ or "").strip().partition("\n")[0],
    }


def _tell(report: DeclaredReport) -> None:
    """Print what became of the samples, for people."""
    rows = ", ".join(f"{count} {family}" for family, count in sorted(report.rows.items()))
    who = f"{report.records} records as {report.adapter}"
    click.echo(
        f"{who if report.adapter else f'{report.records} not recognised'}: {rows or 'no rows'}"
    )
    if report.partial:
        click.echo(f"  {report.partial} rows are partial: a value was dropped or cut")
    for reason, count in Counter(report.skipped).most_common():
        click.echo(f"  skipped {count}: {reason}")
    for refused in report.refused:
        click.echo(f"  refused {refused.count}: {refused.reason} (first: {refused.first})")
    for family, names in report.never_filled.items():
        click.echo(f"  never filled in {family}: {', '.join(names)}")
    if not report.records:
        say("the samples hold no record")
