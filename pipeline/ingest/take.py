"""Turn a slice of records into rows of the four tables.

Every record of the slice ends as rows, as a dead letter, or (a delivery file
without records) as nothing; a record that makes an adapter fail is isolated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.events.complete import to_table_batch
from pipeline.events.schema import TABLES
from pipeline.ingest.batch import ANCHOR
from pipeline.ingest.dead_letters import dead_letter_batch
from pipeline.ingest.sources import Adapted, Refusal, load_adapter

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


def take_slice(records: Slice, context: Context, now: datetime) -> dict[str, list[pa.RecordBatch]]:
    """Return the rows of each table.

    Raises SourceError where a schema registry is down: the slice may come again.
    """
    adapted = _adapt_readable(records, context)
    offsets = np.asarray(records.offsets, dtype=np.int64)
    tables: dict[str, list[pa.RecordBatch]] = {}
    for decoded in adapted.batches:
        rows = to_table_batch(
            decoded.family,
            decoded.batch,
            adapter=records.adapter,
            topic=records.place.topic,
            partition=records.place.partition,
            offsets=offsets[decoded.rows],
            ingest_time=now,
            parse_status=decoded.parse_status,
            uids=decoded.event_uids,
        )
        tables.setdefault(TABLES[decoded.family], []).append(rows)
    if adapted.refusals:
        letters = dead_letter_batch(records, adapted.refusals, now, context.tenant_id)
        tables[ANCHOR] = [letters]
    return tables


def _adapt_readable(records: Slice, context: Context) -> Adapted:
    adapter = load_adapter(records.adapter)
    if not records.faults:
        return _adapt(adapter, records.values, context)
    readable = [at for at in range(len(records.values)) if at not in records.faults]
    adapted = _adapt(adapter, [records.values[at] for at in readable], context)
    places = np.array(readable, dtype=np.int64)
    faults = [Refusal(at, *fault) for at, fault in records.faults.items()]
    return Adapted(
        [replace(batch, rows=places[batch.rows]) for batch in adapted.batches],
        [replace(item, row=readable[item.row]) for item in adapted.refusals] + faults,
    )


def _adapt(adapter: Adapter, values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return what the adapter makes of the values, halving them when it breaks down."""
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
    head = _adapt(adapter, values[:middle], context)
    tail = _adapt(adapter, values[middle:], context)
    return Adapted(
        head.batches + [replace(b, rows=b.rows + middle) for b in tail.batches],
        head.refusals + [replace(item, row=item.row + middle) for item in tail.refusals],
    )
