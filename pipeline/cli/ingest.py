"""`delegraph ingest`: Kafka or files into the lake."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import log_from, say
from pipeline.cli.options import (
    ADAPTER,
    ManyValues,
    instance_option,
    json_option,
    the_lake,
    with_config,
)
from pipeline.cli.output import write_json
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.run import (
    Control,
    IngestReport,
    ingest_files,
    ingest_topics,
    stop_on_signals,
)
from pipeline.ingest.sources import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline.config import Config
    from pipeline.ingest.tally import Tally
    from pipeline.lake import Lake

MOST_FILES = 10
"""Files that are named one by one; a folder of thousands is told as a whole."""


@click.command(
    cls=ManyValues,
    epilog="Example: delegraph ingest --from logs/*.json.gz --lake ./lake",
)
@click.option(
    "--from",
    "files",
    multiple=True,
    metavar="FILE...",
    help="Files or folders instead of Kafka; - is standard input.",
)
@click.option(
    "--adapter",
    type=ADAPTER,
    metavar="NAME|FILE.yaml",
    default=AUTO,
    show_default=True,
    help="What the files hold (`delegraph sources ls`); topics have theirs in the configuration.",
)
@click.option("--once", is_flag=True, help="End with what is there now.")
@click.option("--tenant", default="default", show_default=True, help="Tenant of vendor records.")
@instance_option
@json_option
@with_config
def command(
    *,
    config: Config,
    files: tuple[str, ...],
    adapter: str,
    once: bool,
    tenant: str,
    instance: str | None,
    as_json: bool,
) -> None:
    """Take events into the lake, each exactly once.

    From files it ends with them, and the same content again adds nothing.
    Each record of a file is recognised by its content, unless --adapter names what it is.
    From Kafka it goes on until SIGTERM, or with --once until the end of what is there.
    """
    lake = the_lake(config, create=True)
    if files:
        context = Context(tenant, instance=instance, adapters=config.ingest.sources)
        with readable(files) as paths:
            report = ingest_files(paths, adapter=adapter, sink=lake, context=context)
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


@contextlib.contextmanager
def readable(files: Sequence[str]) -> Iterator[list[str]]:
    """Give files in place of standard input: its content is read twice, once for its name."""
    if "-" not in files:
        yield list(files)
        return
    with tempfile.TemporaryDirectory(prefix="delegraph-") as folder:
        held = Path(folder) / "stdin"
        with held.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        yield [str(held) if file == "-" else file for file in files]


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
        "taken": [
            {**taken._asdict(), "records": count}
            for taken, count in sorted(report.tally.taken.items(), key=str)
        ],
        "skipped": [
            {**skipped._asdict(), "records": count}
            for skipped, count in sorted(report.tally.skipped.items())
        ],
    }


def tell(report: IngestReport) -> None:
    """Say in a line what was done, and what a person should know."""
    rows = ", ".join(f"{count} {table}" for table, count in sorted(report.rows.items()) if count)
    say(f"stored {report.records} records ({rows or 'nothing new'}) in {report.elapsed_s:.1f} s")
    for note in [*report.notes, *recognised(report.tally), *passed_over(report.tally)]:
        say(f"note: {note}")
    if report.dead_letters:
        say("next: delegraph dead-letters ls")


def recognised(tally: Tally) -> list[str]:
    """Return for each file or topic read as `auto` which adapters took its records.

    Of many files only those are named that hold something unknown, below the sum.
    """
    topics: defaultdict[str, Counter[str | None]] = defaultdict(Counter)
    for taken, count in tally.taken.items():
        if taken.asked == AUTO:
            topics[taken.topic][taken.adapter] += count
    if len(topics) <= MOST_FILES:
        return [f"{_file_name(topic)}: {_shares(counts)}" for topic, counts in topics.items()]
    whole: Counter[str | None] = Counter()
    for counts in topics.values():
        whole.update(counts)
    unknown = [topic for topic, counts in topics.items() if counts[None]]
    told = [f"{_file_name(topic)}: {_shares(topics[topic])}" for topic in unknown[:MOST_FILES]]
    if len(unknown) > MOST_FILES:
        told.append(f"{len(unknown) - MOST_FILES} more files hold records that nobody recognised")
    return [f"{len(topics)} files: {_shares(whole)}", *told]


def passed_over(tally: Tally) -> list[str]:
    """Return how many records say nothing that the contract holds, by reason."""
    return [
        f"skipped {count} of {skipped.adapter}: {skipped.reason}"
        for skipped, count in sorted(tally.skipped.items())
    ]


def _shares(counts: Counter[str | None]) -> str:
    parts = [f"{count} as {name}" for name, count in counts.most_common() if name and count]
    if parts:
        parts[0] = parts[0].replace(" as ", " records as ", 1)
    if counts[None]:
        parts.append(f"{counts[None]} not recognised")
    return ", ".join(parts)


def _file_name(topic: str) -> str:
    return topic.removeprefix("file:").rpartition("#")[0] if topic.startswith("file:") else topic
