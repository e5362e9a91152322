"""Columns built without one Python object per event.

Small vectorised pieces of the generator: ids, picks from pools, lists of
structs, and a batch in contract shape whose unnamed columns have their defaults.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.events.schema import contract_schema, defaults

Ints = npt.NDArray[np.int64]
Columns = dict[str, pa.Array]

SECOND = 1_000_000
HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def hex_ids(rng: np.random.Generator, count: int, digits: int = 32) -> pa.Array:
    """Return distinct-looking lower-case hexadecimal ids, the same for the same dice."""
    letters = HEX[rng.integers(0, 16, size=(count, digits), dtype=np.uint8)]
    ends = np.arange(count + 1, dtype=np.int32) * digits
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(letters.tobytes()))


def prefixed(prefix: str, ids: pa.Array) -> pa.Array:
    """Return the ids with one text before each."""
    return pc.binary_join_element_wise(prefix, ids, "")


def numbered(prefix: str, numbers: Ints) -> pa.Array:
    """Return a text and a number, joined."""
    return prefixed(prefix, pc.cast(pa.array(numbers), pa.string()))


def pick(
    pool: list[Any] | tuple[Any, ...], index: Ints, kind: pa.DataType | None = None
) -> pa.Array:
    """Return the pool's values at the given positions; values may be lists or null."""
    return pa.array(pool, type=kind or pa.string()).take(pa.array(index))


def constant(value: Any, count: int, kind: pa.DataType | None = None) -> pa.Array:
    """Return one value many times."""
    scalar = pa.scalar(value, type=kind or pa.string())
    return pa.nulls(count, scalar.type) if value is None else pa.repeat(scalar, count)


def times(micros: Ints) -> pa.Array:
    """Return UTC timestamps of integer microseconds."""
    return pa.array(micros, type=pa.timestamp("us", tz="UTC"))


def choose(mask: npt.NDArray[np.bool_], yes: pa.Array | None, no: pa.Array | None) -> pa.Array:
    """Return `yes` where the mask holds and `no` elsewhere; None stands for null."""
    kind = (yes if yes is not None else no).type  # type: ignore[union-attr]
    null = pa.scalar(None, type=kind)
    return pc.if_else(pa.array(mask), null if yes is None else yes, null if no is None else no)


def lists_of(members: dict[str, pa.Array], present: npt.NDArray[np.bool_]) -> pa.Array:
    """Return one list per row: one struct where present, empty elsewhere.

    The members hold one value per row; those of absent rows are dropped.
    """
    keep = pa.array(present)
    structs = pa.StructArray.from_arrays(
        [column.filter(keep) for column in members.values()], names=list(members)
    )
    ends = np.concatenate([[0], np.cumsum(present)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), structs)


def two_lists(first: pa.Array, second: pa.Array) -> pa.Array:
    """Return per row the items of both lists, the first list's before."""
    lengths = [
        pc.list_value_length(part).to_numpy(zero_copy_only=False) for part in (first, second)
    ]
    ends = np.concatenate([[0], np.cumsum(lengths[0] + lengths[1])]).astype(np.int32)
    rows = np.concatenate([np.repeat(np.arange(len(first)), length) for length in lengths])
    order = np.argsort(rows, kind="stable")
    items = pa.concat_arrays([first.flatten(), second.flatten()]).take(pa.array(order))
    return pa.ListArray.from_arrays(pa.array(ends), items)


def family_batch(family: str, count: int, columns: Columns) -> pa.RecordBatch:
    """Return a batch in contract shape; a column that is not given has its default."""
    default = defaults(family)
    arrays = []
    schema = contract_schema(family)
    for field in schema:
        if field.name in columns:
            arrays.append(columns[field.name].cast(field.type))
        else:
            value = default[field.name]
            empty = [] if pa.types.is_map(field.type) else value
            arrays.append(constant(empty, count, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def take_rows(batch: pa.RecordBatch, rows: Ints) -> pa.RecordBatch:
    """Return the rows of a batch in the given order."""
    index = pa.array(rows)
    # Half of the columns are empty in any one batch; moving nothing costs as much as moving text.
    arrays = [
        pa.nulls(len(rows), column.type) if column.null_count == len(column) else column.take(index)
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
