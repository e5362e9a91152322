"""Decode Avro records of one writer schema into one Arrow batch.

Takes bodies without their frame; leaves a batch in the writer's shape and a
failure for each record that is not exactly one value of that schema.  A batch
without poison is decoded in one call; a batch with poison is halved until the
poison stands alone.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import fastavro
import fastavro.schema
import numpy as np
import pyarrow as pa
import pyruhvro

from pipeline.events.avro_length import encoded_lengths
from pipeline.events.schema import FAMILIES, avro_text

if TYPE_CHECKING:
    from collections.abc import Sequence

# Below this a failed batch is sifted record by record: a call costs more than a record.
_SIFTED = 32

_NATIVE = {"null", "boolean", "int", "long", "float", "double", "string"}
_NATIVE_LOGICAL = {"date", "timestamp-millis", "timestamp-micros"}
_UNREADABLE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class UnusableSchemaError(ValueError):
    """A writer schema that cannot be read, or is none of our families."""


@dataclass(frozen=True)
class WriterSchema:
    """A writer schema, parsed and probed once."""

    text: str
    family: str
    declared: dict[str, Any]
    parsed: Any
    is_native: bool  # pyruhvro can read it
    is_own: bool  # its bytes are those of our own schema
    fingerprint: bytes


@dataclass(frozen=True)
class AvroRows:
    """What could be decoded, by position in the input, and why the rest could not."""

    batch: pa.RecordBatch | None
    rows: np.ndarray
    is_canonical: np.ndarray  # mask: no other bytes of the same schema mean the same
    failures: dict[int, str]


def fingerprint(text: str) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a schema as single-object encoding writes it."""
    canonical = fastavro.schema.to_parsing_canonical_form(json.loads(text))
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


@lru_cache(maxsize=256)
def read_schema(text: str) -> WriterSchema:
    """Return a writer schema by its text; raises UnusableSchemaError."""
    try:
        declared = json.loads(text)
        parsed = fastavro.parse_schema(declared)
        crc = fingerprint(text)
    except (*_UNREADABLE, AttributeError, fastavro.schema.SchemaParseException) as fault:
        raise UnusableSchemaError("the writer schema is not a valid Avro schema") from fault
    if not isinstance(declared, dict) or declared.get("type") != "record":
        raise UnusableSchemaError("the writer schema is not a record")
    family = str(declared.get("name", "")).rpartition(".")[2]
    if family not in FAMILIES:
        raise UnusableSchemaError(f"the writer schema's name is none of {', '.join(FAMILIES)}")
    if _has_empty_items(declared, {}):
        # A few bytes could then announce billions of items.
        raise UnusableSchemaError("the writer schema has a list of items without bytes")
    is_own = crc == fingerprint(avro_text(family))
    return WriterSchema(text, family, declared, parsed, _is_native(declared), is_own, crc)


def _is_native(declared: Any) -> bool:  # noqa: PLR0911 - one for each type
    """Return whether pyruhvro reads the type; it panics on the others, or cannot name them."""
    if isinstance(declared, list):
        return all(_is_native(part) for part in declared)
    if isinstance(declared, str):
        # A name stands for a type that was looked at where it was declared.
        return declared not in ("bytes", "fixed")
    if declared.get("logicalType", "date") not in _NATIVE_LOGICAL:
        return False
    match declared["type"]:
        case "record" | "error":
            return all(_is_native(field["type"]) for field in declared["fields"])
        case "enum":
            return True
        case "array":
            return _is_native(declared["items"])
        case "map":
            return _is_native(declared["values"])
        case kind:
            return kind in _NATIVE if isinstance(kind, str) else _is_native(kind)


def _has_empty_items(declared: Any, named: dict[str, bool]) -> bool:
    """Return whether some list or map repeats a value of no bytes."""
    if isinstance(declared, list):
        return any(_has_empty_items(part, named) for part in declared)
    if not isinstance(declared, dict):
        return False
    match declared.get("type"):
        case "record" | "error":
            return any(_has_empty_items(f["type"], named) for f in declared["fields"])
        case "array":
            return _is_empty(declared["items"]) or _has_empty_items(declared["items"], named)
        case "map":
            return _has_empty_items(declared["values"], named)
        case kind:
            return isinstance(kind, dict | list) and _has_empty_items(kind, named)


def _is_empty(declared: Any) -> bool:
    if isinstance(declared, dict):
        kind = declared["type"]
        if kind in ("record", "error"):
            return all(_is_empty(field["type"]) for field in declared["fields"])
        return kind == "null" or (kind == "fixed" and not declared["size"])
    return bool(declared == "null")


def decode(bodies: Sequence[bytes], schema: WriterSchema) -> AvroRows:
    """Return the records that are exactly one value of the schema, and why others are not."""
    pieces: list[tuple[np.ndarray, pa.RecordBatch]] = []
    failures: dict[int, str] = {}
    _take(list(bodies), np.arange(len(bodies)), schema, pieces, failures)
    if not pieces:
        return AvroRows(None, np.empty(0, np.int64), np.empty(0, bool), failures)
    batch = pieces[0][1]
    if len(pieces) > 1:
        batch = pa.concat_batches([piece for _, piece in pieces])
    rows = np.concatenate([rows for rows, _ in pieces])
    return _without_odd_lengths(
        bodies, AvroRows(batch, rows, np.ones(len(rows), bool), failures), schema
    )


def _take(
    bodies: list[bytes],
    rows: np.ndarray,
    schema: WriterSchema,
    pieces: list[tuple[np.ndarray, pa.RecordBatch]],
    failures: dict[int, str],
) -> None:
    """Decode these rows, halving them as long as they fail."""
    batch = _read_batch([bodies[row] for row in rows], schema)
    if batch is not None:
        pieces.append((rows, batch))
    elif len(rows) == 1:
        failures[int(rows[0])] = "the bytes are not a record of the writer schema"
    elif len(rows) <= _SIFTED:
        whole = np.array([_reads(bodies[row], schema) for row in rows], dtype=bool)
        for row in rows[~whole]:
            failures[int(row)] = "the bytes are not a record of the writer schema"
        parts = [rows[whole]] if not whole.all() else list(np.array_split(rows, len(rows)))
        for part in parts:
            if len(part):
                _take(bodies, part, schema, pieces, failures)
    else:
        for part in np.array_split(rows, 2):
            _take(bodies, part, schema, pieces, failures)


def _read_batch(bodies: list[bytes], schema: WriterSchema) -> pa.RecordBatch | None:
    """Return the batch, or None where at least one record is broken."""
    try:
        if schema.is_native:
            batch = pyruhvro.deserialize_array(bodies, schema.text)
        else:
            batch = _read_slowly(bodies, schema)
        # Strings that are not UTF-8 come through the decoder and are unsafe to use.
        batch.validate(full=True)
    except (*_UNREADABLE, pa.ArrowException):
        return None
    except BaseException as fault:
        # A Rust panic is no Exception; anything else of that rank means stop.
        if type(fault).__name__ != "PanicException":
            raise
        return None
    return batch


def _read_slowly(bodies: list[bytes], schema: WriterSchema) -> pa.RecordBatch:
    """Decode with fastavro a schema that has bytes, decimals, UUIDs or other rare types."""
    records = []
    for body in bodies:
        stream = io.BytesIO(body)
        record: Any = fastavro.schemaless_reader(stream, schema.parsed, None)
        records.append(record)
        if stream.tell() != len(body):
            raise ValueError("trailing bytes")
    names = [field["name"] for field in schema.declared["fields"]]
    arrays = [pa.array([_plain(record[name]) for record in records]) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names)


def _plain(value: Any) -> Any:
    """Return bytes as hex, for no contract field has them and `ext` keeps text."""
    return value.hex() if isinstance(value, bytes) else value


def _reads(body: bytes, schema: WriterSchema) -> bool:
    stream = io.BytesIO(body)
    try:
        fastavro.schemaless_reader(stream, schema.parsed, None)
    except _UNREADABLE:
        return False
    return stream.tell() == len(body)


def _without_odd_lengths(bodies: Sequence[bytes], read: AvroRows, schema: WriterSchema) -> AvroRows:
    """Fail records with bytes left over, or with numbers that do not fit their type.

    Such a record is longer than the shortest encoding of what was read from it.
    A longer one may still be sound (lists in blocks, padded numbers): fastavro
    then reads it to the end and writes it again.
    """
    if not schema.is_native or read.batch is None:
        return AvroRows(read.batch, read.rows, np.zeros(len(read.rows), bool), read.failures)
    shortest = encoded_lengths(read.batch, schema.declared)
    sizes = np.fromiter((len(bodies[row]) for row in read.rows), np.int64, len(read.rows))
    is_canonical = sizes == shortest
    if is_canonical.all():
        return read
    sound = is_canonical.copy()
    for at in np.flatnonzero(~is_canonical):
        row = int(read.rows[at])
        sound[at] = _is_sound(bodies[row], schema, int(shortest[at]))
        if not sound[at]:
            read.failures[row] = "the bytes do not end where the record ends"
    batch = read.batch.take(pa.array(np.flatnonzero(sound)))
    return AvroRows(batch, read.rows[sound], is_canonical[sound], read.failures)


def _is_sound(body: bytes, schema: WriterSchema, shortest: int) -> bool:
    stream, again = io.BytesIO(body), io.BytesIO()
    try:
        record = fastavro.schemaless_reader(stream, schema.parsed, None)
        fastavro.schemaless_writer(again, schema.parsed, record)
    except _UNREADABLE:
        return False
    return stream.tell() == len(body) and len(again.getvalue()) == shortest
