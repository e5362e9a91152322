"""Take usable credentials out of events before anything is stored or logged.

Takes batches, texts or raw bytes; leaves `redacted:sha256:<hex>` where a
credential stood, so that equal ones can still be joined, or asterisks of the
same length in raw bytes.  A secret too short to resist guessing leaves only
`redacted`.  A batch without secrets costs one scan.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.events.mask import is_basic, redact_bytes
from pipeline.events.schema import enum_symbols
from pipeline.events.shapes import (
    IN_TEXT,
    MAY_BE_IN_COLUMN,
    MAY_BE_IN_VALUE,
    is_raw_name,
    is_secret_name,
)

__all__ = ["redact_batch", "redact_bytes", "redact_text"]

_GUESSABLE_CHARS = 16
_WHOLE = re.compile(r"redacted:sha256:([0-9a-f]{64})")
_HARMLESS = frozenset({"", "true", "false", "null", "none", "0", "1", "redacted"})
_NOT_SCANNED = frozenset().union(
    *(enum_symbols(family) for family in ("tool_call", "token_event", "secret_event"))
)


def redact_text(text: str) -> str:
    """Return the text with every credential in it replaced; twice gives the same."""
    return IN_TEXT.sub(_replace, text)


def redact_batch(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, np.ndarray]:
    """Return the batch without usable credentials, and the mask of changed rows.

    A credential id that is a raw token becomes its sha256, of kind `token_sha256`.
    """
    changed = np.zeros(batch.num_rows, dtype=bool)
    columns = list(batch.columns)
    for at in _suspects(batch):
        columns[at], rows = _redact_column(columns[at])
        changed |= rows
    if not changed.any():
        return batch, changed
    batch = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
    return _name_by_digest(batch), changed


def _digest(secret: str) -> str:
    if len(secret) < _GUESSABLE_CHARS:
        return "redacted"
    return f"redacted:sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


def _replace(hit: re.Match[str]) -> str:
    group = hit.lastindex or 0
    if hit.lastgroup == "basic" and not is_basic(hit["basic"].encode()):
        return hit[0]
    start, end = hit.start(group) - hit.start(), hit.end(group) - hit.start()
    return f"{hit[0][:start]}{_digest(hit[group])}{hit[0][end:]}"


def _suspects(batch: pa.RecordBatch) -> list[int]:
    """Return the columns that may hold a credential, by one pass over all their bytes."""
    owners: list[int] = []
    spans: list[memoryview] = []
    for at, field in enumerate(batch.schema):
        if field.name not in _NOT_SCANNED:
            for leaf in _leaves(batch.column(at)):
                owners.append(at)
                spans.append(_content(leaf))
    ends = np.append(0, np.cumsum([len(span) for span in spans])).astype(np.int64)
    # One text for each column: the expression is then compiled once for all.
    texts = pa.LargeStringArray.from_buffers(
        len(spans), pa.py_buffer(ends), pa.py_buffer(b"".join(spans))
    )
    hits = pc.match_substring_regex(texts, MAY_BE_IN_COLUMN).to_numpy(zero_copy_only=False)
    found = {owner for owner, hit in zip(owners, hits, strict=True) if hit}
    found |= {at for at in range(batch.num_columns) if _has_telling_names(batch.column(at))}
    return sorted(found)


def _leaves(column: pa.Array) -> list[pa.StringArray]:
    """Return the arrays of text in a column, at any depth."""
    if column.null_count == len(column):
        return []
    if pa.types.is_string(column.type):
        return [column]
    if pa.types.is_map(column.type):
        return [*_entries(column)[1:]]
    if pa.types.is_struct(column.type):
        members = (pc.struct_field(column, at) for at in range(column.type.num_fields))
        return [leaf for member in members for leaf in _leaves(member)]
    return _leaves(column.flatten()) if pa.types.is_list(column.type) else []


def _content(column: pa.StringArray) -> memoryview:
    """Return the bytes of all texts, one behind the other."""
    _, offsets, data = column.buffers()
    if data is None:
        return memoryview(b"")
    ends = np.frombuffer(offsets, dtype=np.int32)[[column.offset, column.offset + len(column)]]
    return memoryview(data)[int(ends[0]) : int(ends[1])]


def _has_telling_names(column: pa.Array) -> bool:
    if not pa.types.is_map(column.type):
        return False
    names = pc.unique(_entries(column)[1]).to_pylist()
    return any(is_secret_name(name) or is_raw_name(name) for name in names)


def _entries(column: pa.MapArray) -> tuple[np.ndarray, pa.StringArray, pa.StringArray]:
    """Return offsets from zero, keys and values of a map column."""
    offsets = column.offsets.to_numpy()
    first, size = int(offsets[0]), int(offsets[-1] - offsets[0])
    return offsets - first, column.keys.slice(first, size), column.items.slice(first, size)


def _redact_column(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    if pa.types.is_string(column.type):
        return _redact_strings(column)
    if pa.types.is_struct(column.type):
        return _redact_struct(column)
    if pa.types.is_map(column.type):
        return _redact_map(column)
    return _redact_list(column)


def _redact_strings(column: pa.StringArray) -> tuple[pa.Array, np.ndarray]:
    rows = np.zeros(len(column), dtype=bool)
    hits = pc.match_substring_regex(column, MAY_BE_IN_VALUE)
    hits = hits.fill_null(False) if hits.null_count else hits
    where = np.flatnonzero(hits.to_numpy(zero_copy_only=False))
    if not len(where):
        return column, rows
    before = column.take(pa.array(where)).to_pylist()
    after = [redact_text(text) for text in before]
    rows[where] = [old != new for old, new in zip(before, after, strict=True)]
    return pc.replace_with_mask(column, hits, pa.array(after, pa.string())), rows


def _redact_struct(column: pa.StructArray) -> tuple[pa.Array, np.ndarray]:
    rows = np.zeros(len(column), dtype=bool)
    members = []
    for at in range(column.type.num_fields):
        member, changed = _redact_column(pc.struct_field(column, at))
        members.append(member)
        rows |= changed
    if not rows.any():
        return column, rows
    fields = [column.type.field(at) for at in range(column.type.num_fields)]
    return pa.StructArray.from_arrays(members, fields=fields, mask=column.is_null()), rows


def _redact_list(column: pa.ListArray) -> tuple[pa.Array, np.ndarray]:
    items, changed = _redact_column(column.flatten())
    rows = np.zeros(len(column), dtype=bool)
    if not changed.any():
        return column, rows
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    rows[np.repeat(np.arange(len(column)), lengths)[changed]] = True
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    mask = column.is_null()
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=column.type, mask=mask), rows


def _redact_map(column: pa.MapArray) -> tuple[pa.Array, np.ndarray]:
    """Redact by the shape of keys and values, and by the names of the keys."""
    offsets, keys, items = _entries(column)
    rows = np.zeros(len(column), dtype=bool)
    if not len(keys):
        return column, rows
    items, named = _redact_named(keys, items)
    keys, in_keys = _redact_strings(keys)
    items, in_items = _redact_strings(items)
    changed = named | in_keys | in_items
    if not changed.any():
        return column, rows
    rows[np.repeat(np.arange(len(column)), np.diff(offsets))[changed]] = True
    ends = pa.array(offsets.astype(np.int32))
    return pa.MapArray.from_arrays(ends, keys, items, type=column.type), rows


def _redact_named(keys: pa.StringArray, items: pa.StringArray) -> tuple[pa.Array, np.ndarray]:
    names = pc.unique(keys).to_pylist()
    secret = [name for name in names if is_secret_name(name)]
    raw = [name for name in names if is_raw_name(name)]
    rows = np.zeros(len(keys), dtype=bool)
    if not secret and not raw:
        return items, rows
    hits = pc.is_in(keys, pa.array(secret + raw))
    where = np.flatnonzero(hits.to_numpy(zero_copy_only=False))
    before = items.take(pa.array(where)).to_pylist()
    after = [
        text if text.lower() in _HARMLESS or _WHOLE.fullmatch(text) else _digest(text)
        for text in before
    ]
    rows[where] = [old != new for old, new in zip(before, after, strict=True)]
    return pc.replace_with_mask(items, hits, pa.array(after, pa.string())), rows


def _name_by_digest(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turn credential ids that were raw tokens into their sha256."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    if "credential_id" in columns:
        ids, kinds = _digests(columns["credential_id"], columns["credential_kind"])
        columns["credential_id"], columns["credential_kind"] = ids, kinds
    for name in ("credential_aliases", "parents"):
        if name in columns:
            columns[name] = _digests_in_list(columns[name])
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)


def _digests(ids: pa.Array, kinds: pa.Array) -> tuple[pa.Array, pa.Array]:
    whole = pc.match_substring_regex(ids, f"^{_WHOLE.pattern}$").fill_null(False)
    if not pc.any(whole).as_py():
        return ids, kinds
    bare = pc.replace_substring(ids, "redacted:sha256:", "")
    return pc.if_else(whole, bare, ids), pc.if_else(whole, "token_sha256", kinds)


def _digests_in_list(column: pa.ListArray) -> pa.Array:
    items = column.flatten()
    names = [items.type.field(at).name for at in range(items.type.num_fields)]
    members = {name: pc.struct_field(items, at) for at, name in enumerate(names)}
    members["id"], members["kind"] = _digests(members["id"], members["kind"])
    fields = [items.type.field(at) for at in range(items.type.num_fields)]
    items = pa.StructArray.from_arrays(list(members.values()), fields=fields)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, items, type=column.type, mask=column.is_null())
