"""`delegraph dead-letters`: see what could not be taken, read it again after a fix."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa

from pipeline.cli import say
from pipeline.cli.options import (
    ADAPTER,
    MOMENT,
    ManyValues,
    after_option,
    instance_option,
    json_option,
    limit_option,
    the_lake,
    with_config,
)
from pipeline.cli.output import ask, listing, rows_of, write, write_json
from pipeline.ingest.batch import ANCHOR, Slice, TopicPartition
from pipeline.ingest.dead_letters import MAX_RAW_BYTES
from pipeline.ingest.schema_registry import RegistryClient
from pipeline.ingest.sources import Context
from pipeline.ingest.take import take_slice

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.lake import Lake

SHOWN = ("ingest_time", "kafka_topic", "kafka_partition", "kafka_offset", "stage", "reason")


@click.group()
def command() -> None:
    """List and replay the records that could not be taken."""


@command.command(cls=ManyValues)
@click.option("--stage", multiple=True, help="Of these stages.")
@click.option("--topic", multiple=True, help="Of these topics, or `file:` names.")
@click.option("--from", "start", type=MOMENT, metavar="TIME", help="Refused at this time or later.")
@limit_option
@after_option
@json_option
@with_config
def ls(
    *,
    config: Config,
    stage: tuple[str, ...],
    topic: tuple[str, ...],
    start: datetime | None,
    limit: int,
    after: int,
    as_json: bool,
) -> None:
    """List dead letters, the newest first; their bytes stand in the view `dead_letters`."""
    lake = the_lake(config)
    values = {"stage": list(stage), "topic": list(topic), "start": start}
    with lake.connect(comments=False) as con:
        bound = values | {"limit": limit + 1, "after": after}
        rows = list(rows_of(ask(con, _LIST, bound)))
    following = after + limit if len(rows) > limit else None
    if as_json:
        write_json(listing("dead_letters", lake, rows[:limit], following))
        return
    write("table", SHOWN, rows[:limit])
    if following:
        say(f"showing {limit}; there are more: --limit")


@command.command(cls=ManyValues)
@click.option("--stage", multiple=True, help="Of these stages.")
@click.option("--topic", multiple=True, help="Of these topics, or `file:` names.")
@click.option(
    "--adapter",
    type=ADAPTER,
    metavar="NAME|FILE.yaml",
    help="Read them with this adapter instead of the one that refused.",
)
@instance_option
@click.option("--dry-run", is_flag=True, help="Say what would become of them; store nothing.")
@with_config
def replay(
    *,
    config: Config,
    stage: tuple[str, ...],
    topic: tuple[str, ...],
    adapter: str | None,
    instance: str | None,
    dry_run: bool,
) -> None:
    """Read dead letters again; what can be taken now becomes events.

    May be repeated: the same record is the same event.  The letters themselves stay.
    """
    lake = the_lake(config)
    url = config.kafka.registry_url
    found = letters(lake, list(stage), list(topic))
    for letter in found:
        letter["adapter"] = adapter or letter["adapter"]
        letter["instance"] = instance or config.kafka.instances.get(letter["kafka_topic"])
    registry = RegistryClient(url) if url else None
    context = Context(registry=registry, adapters=config.ingest.sources)
    report = replay_letters(None if dry_run else lake, found, context)
    if not dry_run:
        lake.mark_events()
    write_json(report)


def letters(lake: Lake, stages: list[str], topics: list[str]) -> list[dict[str, Any]]:
    """Return the dead letters whose bytes were kept whole, in a lasting order."""
    with lake.connect(comments=False) as con:
        bound = {"stage": stages, "topic": topics, "most": MAX_RAW_BYTES}
        return list(ask(con, _LETTERS, bound).to_pylist())


def replay_letters(
    lake: Lake | None, found: list[dict[str, Any]], context: Context
) -> dict[str, Any]:
    """Read letters again and store what they give; count rows and what is still refused."""
    groups: defaultdict[tuple[str, str, str | None], list[bytes]] = defaultdict(list)
    for letter in found:
        tenant = letter["tenant_id"] or "default"
        groups[letter["adapter"], tenant, letter.get("instance")].append(letter["raw"])
    rows: defaultdict[str, int] = defaultdict(int)
    refused = 0
    for (name, tenant, instance), values in groups.items():
        records = Slice(_place(values), name, values, range(len(values)), instance=instance)
        meant = replace(context, tenant_id=tenant)
        tables = take_slice(records, meant, datetime.now(UTC)).tables
        refused += sum(batch.num_rows for batch in tables.pop(ANCHOR, []))
        for table, batches in tables.items():
            rows[table] += _store(lake, table, batches, records)
    return {"letters": len(found), "rows": dict(rows), "still_refused": refused}


def _place(values: list[bytes]) -> TopicPartition:
    """Return a topic named by the content: the same replay again is no news."""
    digest = hashlib.sha256(b"\x1f".join(values)).hexdigest()
    return TopicPartition(f"replay:{digest[:16]}", 0)


def _store(lake: Lake | None, table: str, batches: list[pa.RecordBatch], records: Slice) -> int:
    if lake is None:
        return sum(batch.num_rows for batch in batches)
    place, last = records.place, len(records.values) - 1
    lake.offsets(table, [place])
    return lake.append(table, pa.Table.from_batches(batches), {place: last})


_LIST = """
SELECT * EXCLUDE (raw) FROM dead_letters
WHERE (len($stage::VARCHAR[]) = 0 OR list_contains($stage::VARCHAR[], stage))
  AND (len($topic::VARCHAR[]) = 0 OR list_contains($topic::VARCHAR[], kafka_topic))
  AND ($start::TIMESTAMPTZ IS NULL OR ingest_time >= $start::TIMESTAMPTZ)
ORDER BY ingest_time DESC, kafka_topic, kafka_partition, kafka_offset
LIMIT $limit OFFSET $after
"""

_LETTERS = """
SELECT adapter, tenant_id, kafka_topic, raw FROM dead_letters
WHERE raw IS NOT NULL AND octet_length(raw) > 0 AND octet_length(raw) < $most
  AND (len($stage::VARCHAR[]) = 0 OR list_contains($stage::VARCHAR[], stage))
  AND (len($topic::VARCHAR[]) = 0 OR list_contains($topic::VARCHAR[], kafka_topic))
ORDER BY kafka_topic, kafka_partition, kafka_offset, raw
"""
