"""Decode what travels: Kafka values or lines of a file, in three forms.

Takes raw values; leaves Arrow batches in contract shape and one failure for
each value that could not be taken.  Every input row is in exactly one of them.
Nothing here raises for bad data; a schema registry that cannot be reached
raises SourceError, for then nobody knows whether the data is bad.

| first bytes | form |
| --- | --- |
| 00 and a 4-byte schema id | Avro, schema-registry framing |
| C3 01 and an 8-byte CRC-64-AVRO fingerprint | Avro, single-object encoding |
| `{` | one JSON object with the key `family` |
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from pipeline.events import limits
from pipeline.events.avro import UnusableSchemaError, WriterSchema, decode, read_schema
from pipeline.events.conform import Conformed, Failure, build_batch, conform_batch
from pipeline.events.identity import digests, event_uids
from pipeline.events.json_form import read_objects
from pipeline.events.schema import FAMILIES, avro_text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Decoded", "DecodedBatch", "Failure", "SchemaLookup", "decode_batch"]

_REGISTRY_HEAD = 5  # magic byte and schema id
_SINGLE_OBJECT_HEAD = 10  # marker and fingerprint
_BLANK = b" \t\r\n\xef\xbb\xbf"


class SchemaLookup(Protocol):
    """A schema registry, or anything that knows schemas by number."""

    def schema_text(self, schema_id: int) -> str:
        """Return the schema; KeyError if there is none, SourceError if nobody answers."""
        ...


@dataclass(frozen=True)
class DecodedBatch:
    """Events of one family, not yet redacted."""

    family: str
    batch: pa.RecordBatch  # contract_schema(family)
    rows: np.ndarray  # where each row of `batch` stood among the values
    parse_status: pa.Array  # ok or partial
    event_uids: pa.Array


@dataclass
class Decoded:
    """All that came out of one call."""

    batches: list[DecodedBatch] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def refuse(self, rows: Sequence[int] | np.ndarray, stage: str, reason: str) -> None:
        """Fail several values for one reason."""
        self.failures += [Failure(int(row), stage, reason) for row in rows]

    def take(self, conformed: Conformed, rows: np.ndarray, uids: list[str] | None = None) -> None:
        """Add rows whose numbers within `conformed` stand for these numbers among the values."""
        self.failures += [fault._replace(row=int(rows[fault.row])) for fault in conformed.failures]
        if conformed.batch.num_rows:
            family = conformed.family
            ids = event_uids(family, conformed.batch) if uids is None else pa.array(uids)
            status = conformed.parse_status
            taken = rows[conformed.rows]
            self.batches.append(DecodedBatch(family, conformed.batch, taken, status, ids))


def decode_batch(
    values: Sequence[bytes | None],
    *,
    registry: SchemaLookup | None,
    extra_schemas: Sequence[str] = (),
    max_record_bytes: int = limits.MAX_RECORD_BYTES,
) -> Decoded:
    """Return the events in these values, and a failure for each value that is none.

    `extra_schemas` are writer schemas, besides our own three, that single-object
    encoding may name by fingerprint.  Raises SourceError when the registry is
    needed and cannot be reached.
    """
    decoded = Decoded()
    objects: list[int] = []
    singles: dict[bytes, list[int]] = defaultdict(list)
    for head, rows in _by_head(values, decoded, max_record_bytes).items():
        if head[0] == 0:
            _take_framed(values, rows, head, registry, decoded)
        elif head[:2] == b"\xc3\x01":
            for row in rows:
                singles[(values[row] or b"")[:_SINGLE_OBJECT_HEAD]].append(row)
        elif head.lstrip(_BLANK)[:1] == b"{":
            objects += rows
        else:
            decoded.refuse(rows, "frame", _strange(head))
    for head, rows in singles.items():
        _take_single_objects(values, rows, head, tuple(extra_schemas), decoded)
    if objects:
        _take_json(values, sorted(objects), decoded)
    decoded.failures.sort()
    return decoded


def _by_head(
    values: Sequence[bytes | None], decoded: Decoded, max_record_bytes: int
) -> dict[bytes, list[int]]:
    """Group the rows by their first bytes; refuse what is empty or too large."""
    heads: dict[bytes, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        if not value:
            reason = "the value is null (a tombstone)" if value is None else "the value is empty"
            decoded.refuse([row], "frame", reason)
        elif len(value) > max_record_bytes:
            reason = f"the record has {len(value)} bytes, the limit is {max_record_bytes}"
            decoded.refuse([row], "limit", reason)
        else:
            head = value[:_REGISTRY_HEAD]
            if not head.lstrip(_BLANK):
                # A JSON value may begin with blanks, which say nothing.
                head = value.lstrip(_BLANK)[:1] or head
            heads[head].append(row)
    return heads


def _strange(head: bytes) -> str:
    if head.lstrip(_BLANK)[:1] == b"[":
        return "a JSON array at top level: send one object in each record"
    return "neither schema-registry framing (00), single-object encoding (C3 01) nor a JSON object"


def _take_framed(
    values: Sequence[bytes | None],
    rows: list[int],
    head: bytes,
    registry: SchemaLookup | None,
    decoded: Decoded,
) -> None:
    if len(head) < _REGISTRY_HEAD:
        decoded.refuse(rows, "frame", "the record ends within the schema id")
        return
    schema_id = int.from_bytes(head[1:])
    if registry is None:
        decoded.refuse(rows, "frame", f"schema id {schema_id}, but no schema registry is set")
        return
    try:
        schema = read_schema(registry.schema_text(schema_id))
    except KeyError:
        decoded.refuse(rows, "decode", f"the registry has no schema with id {schema_id}")
    except UnusableSchemaError as fault:
        decoded.refuse(rows, "decode", f"schema id {schema_id}: {fault}")
    else:
        _take_avro(values, rows, _REGISTRY_HEAD, schema, decoded)


def _take_single_objects(
    values: Sequence[bytes | None],
    rows: list[int],
    head: bytes,
    extra_schemas: tuple[str, ...],
    decoded: Decoded,
) -> None:
    if len(head) < _SINGLE_OBJECT_HEAD:
        decoded.refuse(rows, "frame", "the record ends within the fingerprint")
        return
    schema = _fingerprints(extra_schemas).get(head[2:])
    if schema is None:
        decoded.refuse(rows, "decode", f"no schema with the fingerprint {head[2:].hex()} is known")
    else:
        _take_avro(values, rows, _SINGLE_OBJECT_HEAD, schema, decoded)


@cache
def _fingerprints(extra_schemas: tuple[str, ...]) -> dict[bytes, WriterSchema]:
    texts = (*(avro_text(family) for family in FAMILIES), *extra_schemas)
    return {schema.fingerprint: schema for schema in map(read_schema, texts)}


def _take_avro(
    values: Sequence[bytes | None],
    rows: list[int],
    head_bytes: int,
    schema: WriterSchema,
    decoded: Decoded,
) -> None:
    bodies = [(values[row] or b"")[head_bytes:] for row in rows]
    read = decode(bodies, schema)
    numbers = np.array(rows, dtype=np.int64)
    decoded.failures += [Failure(rows[at], "decode", why) for at, why in read.failures.items()]
    if read.batch is None:
        return
    conformed = conform_batch(schema.family, read.batch)
    uids = None
    if schema.is_own:
        uids = _uids_of_bodies(conformed, [bodies[at] for at in read.rows], read.is_canonical)
    decoded.take(conformed, numbers[read.rows], uids)


def _uids_of_bodies(
    conformed: Conformed, bodies: list[bytes], is_canonical: np.ndarray
) -> list[str]:
    """Return event_uids from the bytes received, and by writing only the rows that differ."""
    family = conformed.family
    uids = digests(family, [bodies[at] for at in conformed.rows])
    other = np.flatnonzero(conformed.mended | ~is_canonical[conformed.rows])
    if len(other):
        written = event_uids(family, conformed.batch.take(pa.array(other))).to_pylist()
        for at, uid in zip(other, written, strict=True):
            uids[at] = uid
    return uids


def _take_json(values: Sequence[bytes | None], rows: list[int], decoded: Decoded) -> None:
    objects, failures = read_objects([(row, values[row] or b"") for row in rows])
    decoded.failures += failures
    for family, found in objects.items():
        conformed = build_batch(family, [record for _, record in found])
        decoded.take(conformed, np.array([row for row, _ in found], dtype=np.int64))
