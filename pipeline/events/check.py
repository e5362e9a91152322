"""Find the rows that break a rule of the contract.

Takes columns in contract types; gives, for each rule that is broken, its stage
and the reason by row.  Looks at whole columns first: rows are looked at only
where a column shows a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.events import limits
from pipeline.events.schema import contract_schema, enum_symbols, nested_enums, nested_required

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

Faults = tuple[str, dict[int, str]]


def find_faults(
    family: str, columns: Mapping[str, pa.Array], known: Collection[int]
) -> Iterator[Faults]:
    """Yield each broken rule as its stage and the reasons by row; `known` rows are skipped."""
    words = enum_symbols(family)
    for field in contract_schema(family):
        column = columns[field.name]
        for stage, mask, reason in _column_faults(field, column, words.get(field.name)):
            rows = np.flatnonzero(mask)
            yield stage, {int(row): f"{field.name} {reason}" for row in rows if row not in known}
    if family == "token_event":
        yield "validate", _unnamed_credentials(columns)


def trim_actors(columns: dict[str, pa.Array]) -> np.ndarray:
    """Cut actor chains over the limit, mark them, and return the mask of those rows."""
    chains = columns.get("act_chain")
    if chains is None:
        return np.zeros(len(next(iter(columns.values()))), dtype=bool)
    long = _lengths(chains) > limits.MAX_ACTORS
    if long.any():
        cut = pc.list_slice(chains, 0, limits.MAX_ACTORS).cast(chains.type)
        columns["act_chain"] = pc.if_else(pa.array(long), cut, chains)
        columns["act_truncated"] = pc.or_(columns["act_truncated"], pa.array(long))
    return long


def _column_faults(
    field: pa.Field, column: pa.Array, words: tuple[str, ...] | None
) -> Iterator[tuple[str, np.ndarray, str]]:
    if not field.nullable and column.null_count:
        yield "validate", _mask(column.is_null()), "is missing"
    if column.null_count == len(column):
        return
    if words is not None:
        if not pc.all(pc.is_in(column.drop_null(), pa.array(words))).as_py():
            known = pc.is_in(column, pa.array([*words, None], pa.string()))
            yield "validate", ~_mask(known), "has a word that the contract does not know"
    elif pa.types.is_timestamp(field.type):
        yield from _time_faults(field.name, column)
    elif pa.types.is_string(field.type):
        yield from _text_faults(column, limits.MAX_TEXT_BYTES)
    elif pa.types.is_list(field.type):
        yield from _list_faults(field, column)
    elif pa.types.is_map(field.type):
        yield from _map_faults(column)


def _time_faults(name: str, column: pa.Array) -> Iterator[tuple[str, np.ndarray, str]]:
    least, most = limits.MIN_TIME_US, limits.MAX_TIME_US
    reason = "is outside the years 1 to 9999"
    if name == "event_time":
        least, most = limits.MIN_EVENT_TIME_US, limits.MAX_EVENT_TIME_US
        reason = "is outside the years 1970 to 2199"
    counts = column.view(pa.int64())
    ends = pc.min_max(counts).as_py()
    if ends["min"] < least or ends["max"] > most:
        outside = pc.or_(pc.less(counts, least), pc.greater(counts, most))
        yield "validate", _mask(outside), reason


def _text_faults(column: pa.Array, most: int) -> Iterator[tuple[str, np.ndarray, str]]:
    if _longest(column) > most:
        long = pc.greater(pc.binary_length(column), most)
        yield "limit", _mask(long), f"is longer than {most} bytes"


def _longest(column: pa.Array) -> int:
    """Return an upper bound that costs nothing, or the longest text."""
    data = column.buffers()[2]
    if data is None or data.size <= limits.MAX_SCOPE_BYTES:
        return 0 if data is None else int(data.size)
    return pc.max(pc.binary_length(column)).as_py() or 0


def _list_faults(field: pa.Field, column: pa.Array) -> Iterator[tuple[str, np.ndarray, str]]:
    lengths = _lengths(column)
    most = limits.MAX_LIST_ITEMS
    if lengths.max(initial=0) > most:
        yield "limit", lengths > most, f"has more than {most} items"
    items = column.flatten()
    if not len(items):
        return
    row_of = np.repeat(np.arange(len(column)), lengths)
    if items.null_count:
        yield "validate", _rows(row_of, items.is_null(), len(column)), "has an item without value"
    if pa.types.is_string(items.type):
        most = (
            limits.MAX_SCOPE_BYTES if field.name in limits.SCOPE_FIELDS else limits.MAX_TEXT_BYTES
        )
        for stage, mask, reason in _text_faults(items, most):
            yield stage, _rows(row_of, pa.array(mask), len(column)), f"has an item that {reason}"
        return
    for stage, mask, reason in _member_faults(field.name, items):
        yield stage, _rows(row_of, pa.array(mask), len(column)), reason


def _member_faults(name: str, items: pa.StructArray) -> Iterator[tuple[str, np.ndarray, str]]:
    for index in range(items.type.num_fields):
        member = items.type.field(index).name
        column = pc.struct_field(items, index)
        label = f"has an item whose {member}"
        if member in nested_required(name) and column.null_count:
            yield "validate", _mask(column.is_null()), f"{label} is missing"
        words = nested_enums(name).get(member)
        if words is not None:
            known = pc.is_in(column, pa.array([*words, None], pa.string()))
            yield "validate", ~_mask(known), f"{label} is a word that the contract does not know"
        for stage, mask, reason in _text_faults(column, limits.MAX_TEXT_BYTES):
            yield stage, mask, f"{label} {reason}"


def _map_faults(column: pa.MapArray) -> Iterator[tuple[str, np.ndarray, str]]:
    lengths = np.diff(column.offsets.to_numpy())
    if lengths.max(initial=0) > limits.MAX_EXT_ENTRIES:
        yield (
            "limit",
            lengths > limits.MAX_EXT_ENTRIES,
            f"has more than {limits.MAX_EXT_ENTRIES} entries",
        )
    first = int(column.offsets[0].as_py())
    row_of = np.repeat(np.arange(len(column)), lengths)
    for part in (column.keys, column.items):
        texts = part.slice(first, len(row_of))
        if texts.null_count:
            missing = _rows(row_of, texts.is_null(), len(column))
            yield "validate", missing, "has an entry without value"
        for stage, mask, reason in _text_faults(texts, limits.MAX_TEXT_BYTES):
            yield stage, _rows(row_of, pa.array(mask), len(column)), f"has an entry that {reason}"


def _unnamed_credentials(columns: Mapping[str, pa.Array]) -> dict[int, str]:
    """Return the token events that must name their credential and do not."""
    parts = [columns[f"credential_{part}"] for part in ("issuer", "kind", "id")]
    if not any(part.null_count for part in parts):
        return {}
    missing = np.logical_or.reduce([_mask(part.is_null()) for part in parts])
    excused = pc.or_(pc.equal(columns["op"], "deny"), pc.equal(columns["outcome"], "failure"))
    rows = np.flatnonzero(missing & ~_mask(excused.fill_null(True)))
    reason = "credential_issuer, credential_kind and credential_id are required here"
    return {int(row): reason for row in rows}


def _mask(values: pa.Array) -> np.ndarray:
    if values.null_count:
        values = values.fill_null(False)
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=bool)


def _rows(row_of: np.ndarray, items: pa.Array, size: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[row_of[_mask(items)]] = True
    return mask


def _lengths(column: pa.Array) -> np.ndarray:
    lengths = pc.list_value_length(column)
    counts: np.ndarray = (lengths.fill_null(0) if lengths.null_count else lengths).to_numpy()
    return counts
