"""Bring events into contract shape, column by column.

Takes a batch as some writer's schema gave it, or loose mappings as JSON gives
them; leaves a batch in `contract_schema` and one failure for each row that
breaks the contract.  No row is ever lost: it is in the batch or a failure.

Missing fields take their default.  Fields that the contract does not know go
into `ext` as text.  `parse_status` is `partial` only where a value was dropped
or cut: a doubled `ext` key, an actor chain over `limits.MAX_ACTORS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.events.check import find_faults, trim_actors
from pipeline.events.maps import order_map
from pipeline.events.schema import contract_schema, defaults
from pipeline.events.values import read_column, to_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Failure(NamedTuple):
    """A record that could not be taken; the reason never shows its content."""

    row: int
    stage: str  # frame, decode, validate or limit
    reason: str


@dataclass(frozen=True)
class Conformed:
    """The rows that fit the contract, and a failure for each that does not."""

    family: str
    batch: pa.RecordBatch
    rows: np.ndarray  # where each row of `batch` stood in the input
    partial: np.ndarray  # mask: a value was dropped or cut
    mended: np.ndarray  # mask: the row is no longer what the writer's bytes say
    failures: list[Failure]

    @property
    def parse_status(self) -> pa.Array:
        """Return `ok` or `partial` for each row of `batch`."""
        return pc.if_else(pa.array(self.partial), "partial", "ok")


@dataclass
class _Work:
    """Columns under construction; row numbers are those of the input."""

    family: str
    size: int
    columns: dict[str, pa.Array] = field(default_factory=dict)
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)
    partial: np.ndarray = field(init=False)
    mended: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.partial = np.zeros(self.size, dtype=bool)
        self.mended = np.zeros(self.size, dtype=bool)

    def refuse(self, problems: Mapping[int, str], stage: str = "validate") -> None:
        """Keep the first reason of each row."""
        for row, reason in problems.items():
            self.faults.setdefault(row, (stage, reason))


def conform_batch(family: str, batch: pa.RecordBatch) -> Conformed:
    """Return a batch of any writer's schema in contract shape.

    Types may be promoted as Avro allows (int to long, milliseconds to
    microseconds, a union to its branch); anything else is a failure of the rows
    that have a value there.
    """
    work = _Work(family, batch.num_rows)
    names = batch.schema.names
    for declared in contract_schema(family):
        column = batch.column(names.index(declared.name)) if declared.name in names else None
        work.columns[declared.name] = _fit(work, declared, column)
    known = set(work.columns)
    extra = {name: batch.column(i) for i, name in enumerate(names) if name not in known}
    if extra:
        texts = {name: _texts(column) for name, column in extra.items()}
        _add_to_ext(work, [{n: t[row] for n, t in texts.items()} for row in range(work.size)])
        work.mended[:] = True
    return _finish(work)


def build_batch(family: str, records: Sequence[Mapping[str, Any]]) -> Conformed:
    """Return loose mappings (parsed JSON, an adapter's events) in contract shape."""
    work = _Work(family, len(records))
    known = defaults(family)
    present = set().union(*records)
    for declared in contract_schema(family):
        # Arrow makes the name anew at each look.
        name = declared.name
        default = known.get(name)
        if name not in present:
            work.columns[name] = _constant(declared, default, work.size)
            continue
        values = [record.get(name) for record in records]
        work.columns[name], problems = read_column(values, declared, default)
        work.refuse(problems)
    unknown = present - {*work.columns, "family"}
    if unknown:
        texts: list[dict[str, Any]] = [
            {name: value for name, value in record.items() if name in unknown} for record in records
        ]
        _add_to_ext(work, texts)
    return _finish(work)


def check_batch(family: str, batch: pa.RecordBatch) -> Conformed:
    """Return what of a batch that has the contract's columns also keeps its rules."""
    work = _Work(family, batch.num_rows)
    work.columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    return _finish(work)


def _fit(work: _Work, declared: pa.Field, column: pa.Array | None) -> pa.Array:
    default = defaults(work.family).get(declared.name)
    if column is None or column.null_count == work.size:
        return _constant(declared, default, work.size)
    fitted = _cast(column, declared.type)
    if fitted is None or (default is not None and fitted.null_count and not _is_scalar(declared)):
        fitted, problems = read_column(_loose(column), declared, default)
        work.refuse(problems)
        work.mended[:] = True
    elif default is not None and fitted.null_count:
        fitted = fitted.fill_null(default)
    return fitted


def _is_scalar(declared: pa.Field) -> bool:
    return not pa.types.is_nested(declared.type)


def _constant(declared: pa.Field, default: object, size: int) -> pa.Array:
    if default is None:
        return pa.nulls(size, declared.type)
    value = list(default.items()) if isinstance(default, dict) else default
    return pa.repeat(pa.scalar(value, declared.type), size)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the column in another type, or None where values must be read one by one."""
    if column.type == kind:
        return column
    if not _is_promotable(column.type, kind):
        return None
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None  # one value overflows: find it by hand


def _is_promotable(given: pa.DataType, kind: pa.DataType) -> bool:  # noqa: PLR0911 - one for each type
    """Return whether Arrow's cast keeps the meaning; it would also make text of numbers."""
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return bool(given == kind)
    if pa.types.is_map(kind):
        return bool(pa.types.is_map(given) and given.item_type == kind.item_type)
    if pa.types.is_timestamp(kind):
        return bool(pa.types.is_timestamp(given) or pa.types.is_int64(given))
    if pa.types.is_integer(kind):
        return bool(pa.types.is_integer(given))
    if pa.types.is_list(kind):
        return bool(pa.types.is_list(given) and _is_promotable(given.value_type, kind.value_type))
    if pa.types.is_struct(kind) and pa.types.is_struct(given):
        members = {given.field(i).name: given.field(i).type for i in range(given.num_fields)}
        wanted = [kind.field(i) for i in range(kind.num_fields)]
        return all(_is_promotable(members.get(w.name, w.type), w.type) for w in wanted)
    return False


def _loose(column: pa.Array) -> list[Any]:
    """Return Python values; times as integers, for Python's own end with the year 9999."""
    if pa.types.is_timestamp(column.type):
        factor = {"s": 1_000_000, "ms": 1_000, "us": 1}.get(column.type.unit)
        counts = column.cast(pa.int64()).to_pylist()
        if factor is None:
            return [None if count is None else count // 1_000 for count in counts]
        return [None if count is None else count * factor for count in counts]
    values: list[Any] = column.to_pylist()
    return values


def _texts(column: pa.Array) -> list[str | None]:
    if not pa.types.is_nested(column.type):
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        return texts
    return [None if value is None else to_text(value) for value in column.to_pylist()]


def _add_to_ext(work: _Work, extra: Sequence[Mapping[str, Any]]) -> None:
    """Put fields without a column into `ext`; a key that stands there already wins."""
    merged: list[dict[str, Any] | None] = []
    for row, (sent, more) in enumerate(zip(work.columns["ext"].to_pylist(), extra, strict=True)):
        merged.append({**more, **dict(sent or ())})
        if sent and not more.keys().isdisjoint(key for key, _ in sent):
            work.partial[row] = True
    declared = contract_schema(work.family).field("ext")
    work.columns["ext"], problems = read_column(merged, declared, {})
    work.refuse(problems)


def _finish(work: _Work) -> Conformed:
    work.columns["ext"], moved, lost = order_map(work.columns["ext"])
    work.mended |= moved
    work.partial |= lost
    for stage, problems in find_faults(work.family, work.columns, work.faults):
        work.refuse(problems, stage)
    cut = trim_actors(work.columns)
    work.mended |= cut
    work.partial |= cut
    schema = contract_schema(work.family)
    arrays = [work.columns[name] for name in schema.names]
    failures = [Failure(row, *fault) for row, fault in sorted(work.faults.items())]
    kept = np.setdiff1d(np.arange(work.size), np.fromiter(work.faults, np.int64, len(work.faults)))
    if failures:
        # A failed row may hold nulls that the contract forbids: leave it out first.
        arrays = [array.take(pa.array(kept)) for array in arrays]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return Conformed(work.family, batch, kept, work.partial[kept], work.mended[kept], failures)
