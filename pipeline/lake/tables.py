"""Every table of the lake: columns, key, partition and documentation.

The event tables come from `pipeline.events.schema`, all others from
`tables/*.toml`.  Nothing else declares a stored column.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline.events.schema import DEAD_LETTER_SCHEMA, TABLES, TIMESTAMP, table_schema

EVENT_TABLES = tuple(TABLES.values())
FAMILY_OF = {table: family for family, table in TABLES.items()}
RAW_TABLES = (*EVENT_TABLES, "dead_letters")

_FOLDER = Path(__file__).parent / "tables"

_ARROW = {
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIMESTAMPTZ": TIMESTAMP,
    "BLOB": pa.binary(),
}
_DUCK = {arrow: duck for duck, arrow in _ARROW.items()}

# What queries filter by.  Statistics on anything else only make commits slower.
# fmt: off
_FILTERED = frozenset((
    "event_time", "event_uid", "ingest_time", "kafka_offset", "agent_id", "credential_id",
    "subject_id", "trace_id", "credential_key", "root_key", "child_key", "parent_key",
    "alias_key", "call_key", "secret_id", "finding_id",
))
# fmt: on

_RAW_DOCS = {
    "tool_calls": "One tool call as one observer saw it.",
    "token_events": "One operation on one credential.",
    "secret_events": "One thing that happened to a stored secret.",
    "dead_letters": "One record that could not be taken.",
}


@dataclass(frozen=True)
class Table:
    """The declaration of one stored table."""

    name: str
    doc: str
    schema: pa.Schema
    key: tuple[str, ...]
    partition: str | None
    written_by: str

    @property
    def is_raw(self) -> bool:
        """Whether rows come from Kafka or files and are only ever added."""
        return self.written_by == "ingest"

    @property
    def is_published(self) -> bool:
        """Whether readers see it at the version of the newest publication."""
        return self.written_by == "chains"

    @property
    def filtered(self) -> list[str]:
        """Return the columns that deserve statistics."""
        return [name for name in self.schema.names if name in _FILTERED]


def arrow_type(duck: str) -> pa.DataType:
    """Return the Arrow type of a DuckDB type as the declarations spell it."""
    if duck.endswith("[]"):
        return pa.list_(arrow_type(duck[:-2]))
    if duck.startswith("STRUCT("):
        members = re.findall(r"(\w+) (\w+)", duck[len("STRUCT(") : -1])
        return pa.struct([pa.field(name, _ARROW[kind]) for name, kind in members])
    return _ARROW[duck]


def duck_type(arrow: pa.DataType) -> str:
    """Return the DuckDB type of an Arrow type that a table may have."""
    if pa.types.is_list(arrow):
        return f"{duck_type(arrow.value_type)}[]"
    if pa.types.is_struct(arrow):
        members = ", ".join(f'"{member.name}" {duck_type(member.type)}' for member in arrow)
        return f"STRUCT({members})"
    if pa.types.is_map(arrow):
        return f"MAP({duck_type(arrow.key_type)}, {duck_type(arrow.item_type)})"
    return _DUCK[arrow]


def documented(columns: dict[str, list[str]]) -> pa.Schema:
    """Return the Arrow schema of `column = [type, doc]` declarations."""
    return pa.schema(
        [
            pa.field(name, arrow_type(kind), metadata={"doc": doc})
            for name, (kind, doc) in columns.items()
        ]
    )


@cache
def declaration(name: str) -> tuple[Table, dict[str, list[str]]]:
    """Return a derived table as its file declares it, and the file's columns."""
    declared = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    table = Table(
        name,
        declared["doc"],
        documented(declared["columns"]),
        tuple(declared["key"]),
        # One row per observed call: the only derived table as large as the raw ones.
        "event_date" if name == "call_links" else None,
        declared["written_by"],
    )
    return table, declared["columns"]


@cache
def tables() -> dict[str, Table]:
    """Return every stored table by name, the raw ones first."""
    found = {
        name: Table(
            name, _RAW_DOCS[name], _raw_schema(name), _raw_key(name), "event_date", "ingest"
        )
        for name in RAW_TABLES
    }
    for path in sorted(_FOLDER.glob("*.toml")):
        table, _ = declaration(path.stem)
        if table.written_by != "view":
            found[table.name] = table
    return found


def published_tables() -> list[str]:
    """Return the names of the tables that a chain build writes."""
    return [table.name for table in tables().values() if table.is_published]


def _raw_schema(name: str) -> pa.Schema:
    return DEAD_LETTER_SCHEMA if name == "dead_letters" else table_schema(FAMILY_OF[name])


def _raw_key(name: str) -> tuple[str, ...]:
    place = ("kafka_topic", "kafka_partition", "kafka_offset")
    return place if name == "dead_letters" else ("event_uid",)
