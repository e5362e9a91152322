"""Put the entries of an Arrow map column in one order.

Keys ascend and each stands once, the last of equals winning, so that equal maps
have equal bytes and DuckDB can read them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def unordered_rows(column: pa.MapArray) -> np.ndarray:
    """Return a mask of the rows whose keys do not strictly ascend."""
    rows = np.zeros(len(column), dtype=bool)
    offsets = column.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    if last - first < 2:  # noqa: PLR2004 - one key is always in order
        return rows
    keys = column.keys.slice(first, last - first)
    ascends = pc.less(keys.slice(0, len(keys) - 1), keys.slice(1)).to_numpy(zero_copy_only=False)
    # The step from one row's last key to the next row's first does not count.
    lengths = np.diff(offsets)
    row_of = np.repeat(np.arange(len(column)), lengths)
    inside = row_of[1:] == row_of[:-1]
    rows[row_of[1:][inside & ~ascends]] = True
    return rows


def order_map(column: pa.MapArray) -> tuple[pa.MapArray, np.ndarray, np.ndarray]:
    """Return the ordered column, the rows that were reordered, those that lost an entry."""
    moved = unordered_rows(column)
    lost = np.zeros(len(column), dtype=bool)
    if not moved.any():
        return column, moved, lost
    offsets = column.offsets.to_numpy()
    first, size = int(offsets[0]), int(offsets[-1] - offsets[0])
    keys = column.keys.slice(first, size)
    items = column.items.slice(first, size)
    row_of = np.repeat(np.arange(len(column)), np.diff(offsets))
    # Arrow's sort is stable, so the last of equal keys stays the last.
    order = pc.sort_indices(
        pa.table({"row": pa.array(row_of), "key": keys}),
        sort_keys=[("row", "ascending"), ("key", "ascending")],
    ).to_numpy()
    keys, items, row_of = keys.take(pa.array(order)), items.take(pa.array(order)), row_of[order]
    same = pc.equal(keys.slice(0, len(keys) - 1), keys.slice(1)).to_numpy(zero_copy_only=False)
    twice = np.append(same & (row_of[1:] == row_of[:-1]), [False])
    lost[row_of[twice]] = True
    kept = pa.array(np.flatnonzero(~twice))
    ends = np.zeros(len(column) + 1, dtype=np.int32)
    np.cumsum(np.bincount(row_of[~twice], minlength=len(column)), out=ends[1:])
    ordered = pa.MapArray.from_arrays(
        pa.array(ends), keys.take(kept), items.take(kept), type=column.type
    )
    return ordered, moved, lost
