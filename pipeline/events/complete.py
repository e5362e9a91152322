"""Make table rows of decoded events: the last step before the lake.

Takes a batch in contract shape; leaves it redacted, with `event_uid` and the
pipeline's own columns.  Reads no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.events.identity import event_uids
from pipeline.events.redact import redact_batch
from pipeline.events.schema import TIMESTAMP, table_schema

if TYPE_CHECKING:
    from datetime import datetime


def to_table_batch(
    family: str,
    batch: pa.RecordBatch,
    *,
    adapter: str,
    topic: str,
    partition: int | Sequence[int] | np.ndarray,
    offsets: Sequence[int] | np.ndarray | pa.Array,
    ingest_time: datetime,
    parse_status: str | pa.Array = "ok",
    uids: pa.Array | None = None,
) -> pa.RecordBatch:
    """Return the batch in `table_schema(family)`, redacted.

    `offsets` has one offset for each row; `partition` one number, or one for
    each row.  `uids` spares the work where `decode_batch` has given them.
    """
    size = batch.num_rows
    if uids is None:
        # Of the event as sent, so before redaction.
        uids = event_uids(family, batch)
    clean, _ = redact_batch(batch)
    schema = table_schema(family)
    added = {
        "event_uid": uids,
        "family": _repeat(family, pa.string(), size),
        "adapter": _repeat(adapter, pa.string(), size),
        "ingest_time": _repeat(ingest_time, TIMESTAMP, size),
        "event_date": clean.column("event_time").cast(pa.date32(), safe=False),
        "kafka_topic": _repeat(topic, pa.string(), size),
        "kafka_partition": _repeat(partition, pa.int32(), size),
        "kafka_offset": _repeat(offsets, pa.int64(), size),
        "parse_status": _repeat(parse_status, pa.string(), size),
    }
    sent = dict(zip(clean.schema.names, clean.columns, strict=True))
    return pa.RecordBatch.from_arrays(
        [{**sent, **added}[name] for name in schema.names], schema=schema
    )


def _repeat(value: object, kind: pa.DataType, size: int) -> pa.Array:
    """Return a column of one value, or the column that was given."""
    if isinstance(value, pa.Array):
        return value.cast(kind)
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return pa.array(value, kind)
    return pa.repeat(pa.scalar(value, kind), size)
