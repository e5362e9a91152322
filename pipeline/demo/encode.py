"""Batches in contract shape to the bytes that travel: Avro in two framings, and JSON.

By columns all the way: Avro by pyruhvro, JSON by DuckDB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from pipeline.demo.columns import Ints, pick
from pipeline.events.avro import fingerprint
from pipeline.events.schema import TABLES, avro_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.demo.generate import Arrivals

SINGLE_OBJECT, REGISTRY, JSON = range(3)
TOPICS = {family: f"agent.{table}" for family, table in TABLES.items()}


@dataclass(frozen=True)
class Wire:
    """Which forms to mix: shares of single-object Avro, registry Avro and JSON.

    `schema_ids` are the registry's numbers of the three schemas; without them
    nothing is framed for a registry.
    """

    schema_ids: Mapping[str, int] = field(default_factory=dict)
    json_share: float = 0.05

    def forms(self, family: str, count: int, first: int) -> Ints:
        """Return the form of each record; `first` is the number of the first record."""
        framed = REGISTRY if family in self.schema_ids else SINGLE_OBJECT
        turn = (np.arange(first, first + count) * 0.618_033_988_75) % 1.0
        # Registry framing is what most producers send where there is one; some never do.
        avro = np.where(turn > 1 - (1 - self.json_share) / 3, SINGLE_OBJECT, framed)
        return np.where(turn < self.json_share, JSON, avro)


def encode(arrivals: Arrivals, wire: Wire, first: int = 0) -> pa.Array:
    """Return the records of a batch as they travel, in the same order."""
    family, batch = arrivals.family, arrivals.batch
    if batch.num_rows == 0:
        return pa.array([], type=pa.binary())
    forms = wire.forms(family, batch.num_rows, first)
    single = b"\xc3\x01" + fingerprint(avro_text(family))
    framed = b"\x00" + wire.schema_ids.get(family, 0).to_bytes(4)
    heads = pick([single, framed, b""], forms, pa.binary())
    # Everything is written as Avro first: moving rows costs more than writing the few again.
    records = pc.binary_join_element_wise(heads, avro_bodies(family, batch), pa.scalar(b""))
    as_json = np.flatnonzero(forms == JSON)
    lines = json_lines(family, batch.take(pa.array(as_json))).cast(pa.binary())
    place = np.arange(batch.num_rows)
    place[as_json] = batch.num_rows + np.arange(len(as_json))
    return pa.concat_arrays([records, lines]).take(pa.array(place))


def avro_bodies(family: str, batch: pa.RecordBatch) -> pa.Array:
    """Return the bare Avro bodies of a batch in contract shape."""
    arrays = [_zoneless(column) for column in batch.columns]
    fields = [
        pa.field(f.name, a.type, f.nullable) for f, a in zip(batch.schema, arrays, strict=True)
    ]
    plain = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    parts = pyruhvro.serialize_record_batch(plain, avro_text(family), 1)
    return pa.concat_arrays([pa.array(part) for part in parts])


def _zoneless(column: pa.Array) -> pa.Array:
    # The Avro writer knows timestamps without a zone only; they are UTC all the same.
    return column.cast(pa.timestamp("us")) if pa.types.is_timestamp(column.type) else column


def json_lines(family: str, batch: pa.RecordBatch) -> pa.Array:
    """Return one JSON object per event, without its nulls; times as integer microseconds."""
    arrays: list[Any] = [pa.array([family]).take(pa.array(np.zeros(batch.num_rows, np.int64)))]
    arrays += [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in batch.columns]
    events = pa.Table.from_arrays(arrays, names=["family", *batch.schema.names])
    # `family` comes first, so every null has a comma before it.  Quotes within
    # values are escaped: the pattern cannot match inside one.
    with _writer().cursor() as connection:
        connection.register("events", events)
        lines = connection.sql(
            """SELECT regexp_replace(to_json(e)::VARCHAR, ',"[a-z0-9_]+":null', '', 'g') AS line
               FROM events AS e"""
        ).to_arrow_table()
    return lines["line"].combine_chunks().cast(pa.string())


@cache
def _writer() -> duckdb.DuckDBPyConnection:
    """Return the one in-memory database that writes JSON; opening one costs 25 ms."""
    # One thread keeps the order of the rows.
    return duckdb.connect(config={"threads": 1})
