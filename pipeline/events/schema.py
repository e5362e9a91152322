"""The columns of the three event families, derived from the `.avsc` files.

`schemas/avro/*.avsc` is the only declaration.  What producers send is the
contract schema; what a table stores is the contract schema and the pipeline's
own columns behind it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

FAMILIES = ("tool_call", "token_event", "secret_event")
TABLES = {"tool_call": "tool_calls", "token_event": "token_events", "secret_event": "secret_events"}

TIMESTAMP = pa.timestamp("us", tz="UTC")

_PRIMITIVES = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
}

PIPELINE_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("event_uid", pa.string(), "sha256 of tenant, source, event_id and all contract fields."),
    ("family", pa.string(), "tool_call, token_event or secret_event."),
    ("adapter", pa.string(), "Adapter that read the record."),
    ("ingest_time", TIMESTAMP, "When the pipeline took the record, UTC."),
    ("event_date", pa.date32(), "UTC date of `event_time`; the partition."),
    ("kafka_topic", pa.string(), "Topic, or `file:` and the file's name and digest."),
    ("kafka_partition", pa.int32(), "Partition; 0 for a file."),
    ("kafka_offset", pa.int64(), "Offset; the number of the record for a file."),
    ("parse_status", pa.string(), "`ok`, or `partial` where a value was dropped or mended."),
)


def _avro_folder() -> Path:
    installed = Path(__file__).parent / "avro"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "schemas" / "avro"


@cache
def avro_text(family: str) -> str:
    """Return the `.avsc` text of a family, our reader schema."""
    return (_avro_folder() / f"{family}.avsc").read_text(encoding="utf-8")


@cache
def avro_schema(family: str) -> dict[str, Any]:
    """Return the parsed `.avsc` of a family; do not change it."""
    parsed: dict[str, Any] = json.loads(avro_text(family))
    return parsed


def _arrow_type(declared: Any, named: dict[str, pa.DataType]) -> pa.DataType:  # noqa: PLR0911 - one for each type
    if isinstance(declared, list):
        return _arrow_type(next(part for part in declared if part != "null"), named)
    if isinstance(declared, str):
        return named[declared] if declared in named else _PRIMITIVES[declared]
    match declared["type"]:
        case "long":
            return TIMESTAMP if declared.get("logicalType") == "timestamp-micros" else pa.int64()
        case "enum":
            return pa.string()
        case "array":
            return pa.list_(_arrow_type(declared["items"], named))
        case "map":
            return pa.map_(pa.string(), _arrow_type(declared["values"], named))
        case "record":
            members = [
                pa.field(f["name"], _arrow_type(f["type"], named)) for f in declared["fields"]
            ]
            named[declared["name"]] = pa.struct(members)
            return named[declared["name"]]
    raise ValueError(f"no Arrow type for {declared!r}")


def is_nullable(declared: Any) -> bool:
    """Return whether an Avro type is a union with null."""
    return isinstance(declared, list) and "null" in declared


@cache
def contract_schema(family: str) -> pa.Schema:
    """Return the Arrow schema of what producers send; documentation stands in the metadata."""
    named: dict[str, pa.DataType] = {}
    return pa.schema(
        [
            pa.field(
                field["name"],
                _arrow_type(field["type"], named),
                nullable=is_nullable(field["type"]),
                metadata={"doc": field["doc"]},
            )
            for field in avro_schema(family)["fields"]
        ]
    )


@cache
def table_schema(family: str) -> pa.Schema:
    """Return the Arrow schema of a family's table: contract columns, then the pipeline's.

    Every column is nullable here: the contract is enforced before rows reach a
    table, and a Delta table with non-null columns could never gain one.
    """
    sent = [field.with_nullable(True) for field in contract_schema(family)]
    added = [pa.field(name, kind, metadata={"doc": doc}) for name, kind, doc in PIPELINE_COLUMNS]
    return pa.schema([*sent, *added])


@cache
def enum_symbols(family: str) -> dict[str, tuple[str, ...]]:
    """Return the allowed words of each enum column of a family."""
    found: dict[str, tuple[str, ...]] = {}
    for field in avro_schema(family)["fields"]:
        for part in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            if isinstance(part, dict) and part["type"] == "enum":
                found[field["name"]] = tuple(part["symbols"])
    return found


def _item_record(family: str, name: str) -> list[dict[str, Any]]:
    """Return the members of the records in a list column, or nothing."""
    named: dict[str, list[dict[str, Any]]] = {}
    for field in avro_schema(family)["fields"]:
        for part in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            if not (isinstance(part, dict) and part["type"] == "array"):
                continue
            items = part["items"]
            if isinstance(items, dict):
                named[items["name"]] = items["fields"]
            if field["name"] == name:
                return named.get(items["name"] if isinstance(items, dict) else items, [])
    return []


@cache
def nested_required(name: str) -> frozenset[str]:
    """Return the members that every record in this list column must have."""
    members = (member for family in FAMILIES for member in _item_record(family, name))
    return frozenset(m["name"] for m in members if not is_nullable(m["type"]))


@cache
def nested_enums(name: str) -> dict[str, tuple[str, ...]]:
    """Return the allowed words of the enum members of the records in this list column."""
    members = (member for family in FAMILIES for member in _item_record(family, name))
    return {
        m["name"]: tuple(m["type"]["symbols"])
        for m in members
        if isinstance(m["type"], dict) and m["type"]["type"] == "enum"
    }


@cache
def defaults(family: str) -> dict[str, Any]:
    """Return the default of every field that has one; the others are required."""
    return {f["name"]: f["default"] for f in avro_schema(family)["fields"] if "default" in f}


DEAD_LETTER_SCHEMA = pa.schema(
    [
        pa.field("tenant_id", pa.string(), metadata={"doc": "Tenant, where it could be told."}),
        pa.field("kafka_topic", pa.string(), metadata={"doc": "Topic, or `file:` and the file."}),
        pa.field("kafka_partition", pa.int32(), metadata={"doc": "Partition; 0 for a file."}),
        pa.field("kafka_offset", pa.int64(), metadata={"doc": "Offset, or number of the record."}),
        pa.field("adapter", pa.string(), metadata={"doc": "Adapter that should have read it."}),
        pa.field("stage", pa.string(), metadata={"doc": "frame, decode, validate, adapt, limit."}),
        pa.field("reason", pa.string(), metadata={"doc": "What was wrong, without the content."}),
        pa.field("raw", pa.binary(), metadata={"doc": "The record's bytes, secrets masked."}),
        pa.field("raw_bytes", pa.int64(), metadata={"doc": "Length of the record as received."}),
        pa.field("ingest_time", TIMESTAMP, metadata={"doc": "When it was refused, UTC."}),
        pa.field("event_date", pa.date32(), metadata={"doc": "UTC date of `ingest_time`."}),
    ]
)
