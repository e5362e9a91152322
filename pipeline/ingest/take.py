"""Turn a slice of records into rows of the four tables.

Every record of the slice ends as rows, as a dead letter, as a count of what was
skipped, or (a delivery file without records) as nothing; a record that makes an
adapter fail is isolated.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.events.complete import to_table_batch
from pipeline.events.schema import TABLES
from pipeline.ingest.batch import ANCHOR
from pipeline.ingest.dead_letters import dead_letter_batch
from pipeline.ingest.recognise import AUTO, Part, recogniser
from pipeline.ingest.sources import (
    Adapted,
    Refusal,
    adapter_names,
    load_adapter,
    stored_name,
)
from pipeline.ingest.tally import Skipped, Taken, Tally
from pipeline.ingest.unread import kept_of, kept_of_another

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pipeline.ingest.batch import Slice
    from pipeline.ingest.sources import Adapter, Context

_DATA_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    pa.ArrowException,
)
"""What an adapter that has a bug may raise on data that nobody foresaw."""


@dataclass(frozen=True)
class Rows:
    """What a slice became."""

    tables: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


def take_slice(records: Slice, context: Context, now: datetime) -> Rows:
    """Return the rows of each table, and who took which records.

    Raises SourceError where a schema registry is down: the slice may come again.
    """
    rows = Rows()
    offsets = np.asarray(records.offsets, dtype=np.int64)
    instance = context.instance if records.instance is None else records.instance
    context = replace(context, instance=instance, received_at=min(records.received_at or now, now))
    letters: list[pa.RecordBatch] = []
    for name, adapted in _adapted(records, context, rows.tally):
        for decoded in adapted.batches:
            batch = to_table_batch(
                decoded.family,
                decoded.batch,
                adapter=stored_name(name),
                topic=records.place.topic,
                partition=records.place.partition,
                offsets=offsets[decoded.rows],
                ingest_time=now,
                parse_status=decoded.parse_status,
                uids=decoded.event_uids,
            )
            rows.tables.setdefault(TABLES[decoded.family], []).append(batch)
        for reason, count in adapted.skipped.items():
            rows.tally.skipped[Skipped(name, reason)] += count
        if adapted.refusals:
            letters.append(
                dead_letter_batch(records, adapted.refusals, now, context.tenant_id, name)
            )
    if letters:
        rows.tables[ANCHOR] = letters
    return rows


def _adapted(records: Slice, context: Context, tally: Tally) -> list[tuple[str, Adapted]]:
    """Return what each adapter made of its part; row numbers are those of the slice."""
    own = _own_adapters(records, context)
    faults = [
        Refusal(at, *fault, kept_of(records.values[at], own))
        for at, fault in records.faults.items()
    ]
    done = [(records.adapter, Adapted([], faults))] if faults else []
    for name, parts in _sorted_out(records, context).items():
        tally.taken[Taken(records.place.topic, records.adapter, name)] += len(parts)
        if name is None:
            unknown = [_unknown(part, own) for part in parts]
            done.append((records.adapter, Adapted([], unknown)))
        else:
            found = adapt_values(load_adapter(name), [part.value for part in parts], context)
            if records.adapter != AUTO:
                found = replace(
                    found, refusals=[_safe(item, name, parts) for item in found.refusals]
                )
            done.append((name, _placed(found, parts)))
    if faults:
        unread = None if records.adapter == AUTO else records.adapter
        tally.taken[Taken(records.place.topic, records.adapter, unread)] += len(faults)
    return done


def _own_adapters(records: Slice, context: Context) -> tuple[str, ...]:
    """Return the user's adapters that may know what of a damaged record is to be hidden."""
    named = {records.adapter} - {AUTO, *adapter_names()}
    return tuple(sorted({*context.adapters, *named}))


def _sorted_out(records: Slice, context: Context) -> dict[str | None, list[Part]]:
    readable = [at for at in range(len(records.values)) if at not in records.faults]
    if records.adapter != AUTO:
        parts = [Part(at, records.adapter, records.values[at]) for at in readable]
        return {records.adapter: parts} if parts else {}
    known = recogniser(context.adapters)
    found: defaultdict[str | None, list[Part]] = defaultdict(list)
    for at in readable:
        for part in known.parts(at, records.values[at]):
            found[part.adapter].append(part)
    return dict(found)


def _unknown(part: Part, own: tuple[str, ...]) -> Refusal:
    stage, reason = part.fault
    if stage == "decode":
        return Refusal(part.row, stage, reason, kept_of(part.value, own))
    return Refusal(part.row, stage, reason, None if part.is_whole else part.value)


def _safe(item: Refusal, adapter: str, parts: Sequence[Part]) -> Refusal:
    """Return a refusal that keeps nothing which the source it is really of would hide."""
    value = parts[item.row].value or b""
    # What the wrong source read as a record may be a part that nobody would recognise.
    kept = kept_of_another(value, adapter) or kept_of_another(item.raw or b"", adapter)
    return item if kept is None else replace(item, raw=kept)


def _placed(found: Adapted, parts: Sequence[Part]) -> Adapted:
    """Return the same with the rows' and the refusals' places in the slice."""
    places = np.array([part.row for part in parts], dtype=np.int64)
    refusals = []
    for item in found.refusals:
        part = parts[item.row]
        raw = part.value if item.raw is None and not part.is_whole else item.raw
        refusals.append(replace(item, row=part.row, raw=raw))
    batches = [replace(batch, rows=places[batch.rows]) for batch in found.batches]
    return Adapted(batches, refusals, found.skipped)


def adapt_values(adapter: Adapter, values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return what an adapter makes of values, halving them when it breaks down."""
    if not values:
        return Adapted()
    try:
        return adapter.adapt(values, context)
    except _DATA_FAULTS as error:
        # One record must not stop the others for ever.
        if len(values) == 1:
            reason = f"the adapter failed on it: {type(error).__name__}"
            return Adapted([], [Refusal(0, "adapt", reason)])
    middle = len(values) // 2
    head = adapt_values(adapter, values[:middle], context)
    tail = adapt_values(adapter, values[middle:], context)
    return Adapted(
        head.batches + [replace(b, rows=b.rows + middle) for b in tail.batches],
        head.refusals + [replace(item, row=item.row + middle) for item in tail.refusals],
        head.skipped + tail.skipped,
    )
