"""Events per second of every source on its own sample, beside the native path in the same run.

What is timed is the way from values to rows as tables store them (`take_slice`), in the
slices that ingest gathers; reading a file or a topic and committing are left out.
"""

from __future__ import annotations

import gc
import io
import statistics
import time
from itertools import cycle, islice

import fastavro
import orjson

from benchmarks.table import Row
from pipeline.events.avro import read_schema
from pipeline.events.schema import avro_schema, avro_text
from pipeline.ingest.batch import ANCHOR, Slice, TopicPartition
from pipeline.ingest.file_records import read_records
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.run import GATHER_RECORDS
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import Context, adapter_names, load_adapter
from pipeline.ingest.take import take_slice
from tests.factories import NOW, tool_call

RECORDS, ROUNDS = GATHER_RECORDS, 3
NATIVE = "native, JSON"


def run_sources(scale: float) -> list[Row]:
    """Time each source round by round, so that a busy moment falls on all alike."""
    count = max(int(RECORDS * scale), 100)
    events = [tool_call(event_id=f"e-{number}") for number in range(count)]
    subjects = {
        NATIVE: ("native", list(map(orjson.dumps, events))),
        "native, Avro": ("native", list(map(_avro, events))),
    }
    for name in adapter_names():
        path = sample_path(name)
        if name != "native" and path:
            values = list(read_records(path, load_adapter(name).WRAPPER))
            subjects[name] = (name, list(islice(cycle(values), count)))
    subjects["cloudtrail, as auto"] = (AUTO, subjects["cloudtrail"][1])
    rates: dict[str, list[tuple[float, float]]] = {what: [] for what in subjects}
    for what, (_, values) in subjects.items():
        _take(what, subjects[what][0], values[:200])  # plans, caches, imports
    for _ in range(ROUNDS):
        for what, (name, values) in subjects.items():
            rates[what].append(_take(what, name, values))
    known = {what: statistics.median(rate for rate, _ in found) for what, found in rates.items()}
    return [
        Row(
            f"{what} ({sum(map(len, values)) // len(values)} bytes, "
            f"{rates[what][0][1]:.1f} rows a record)",
            f"{known[what]:,.0f} records/s",
            f"{known[what] / known[NATIVE]:.2f} of native JSON",
        )
        for what, (_, values) in subjects.items()
    ]


def _take(what: str, name: str, values: list[bytes]) -> tuple[float, float]:
    """Return records per second and rows per record."""
    records = Slice(TopicPartition(what, 0), name, values, range(len(values)))
    gc.collect()
    gc.disable()  # as the ingest loop does
    began = time.perf_counter()
    rows = take_slice(records, Context(), NOW)
    seconds = time.perf_counter() - began
    gc.enable()
    stored = sum(
        batch.num_rows
        for table, batches in rows.tables.items()
        if table != ANCHOR
        for batch in batches
    )
    return len(values) / seconds, stored / len(values)


def _avro(event: dict[str, object]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, avro_schema("tool_call"), event | {"event_time": NOW})
    return b"\xc3\x01" + read_schema(avro_text("tool_call")).fingerprint + body.getvalue()
