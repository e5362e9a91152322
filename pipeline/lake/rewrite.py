"""One change of one derived table in one commit: keys out, rows in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from pipeline.errors import LakeError
from pipeline.lake.views import name, scan

if TYPE_CHECKING:
    from pipeline.lake.delta import DeltaFolder
    from pipeline.lake.tables import Table


@dataclass(frozen=True)
class Change:
    """What a build does to one table.

    `delete` None: `rows` replace the whole table.  Otherwise the rows that match
    `delete` on all of its columns go before `rows` come in.
    """

    rows: pa.Table
    delete: pa.Table | None = None


def conform(table: Table, rows: pa.Table) -> pa.Table:
    """Return the rows in the table's column order and types, or say what does not fit."""
    unknown = set(rows.column_names) - set(table.schema.names)
    missing = set(table.schema.names) - set(rows.column_names)
    if unknown or missing:
        raise LakeError(
            f"{table.name}: columns that do not fit:"
            f" {sorted(unknown)} unknown, {sorted(missing)} missing"
        )
    return rows.select(table.schema.names).cast(table.schema)


def write_change(folder: DeltaFolder, change: Change) -> int:
    """Write one change; return the table's new version."""
    folder.widen()
    rows = conform(folder.table, change.rows)
    if change.delete is None:
        return folder.overwrite(rows)
    if not change.delete.num_rows:
        return folder.append(rows) if rows.num_rows else folder.version()
    days = _days(folder.table, rows, change.delete)
    kept = _kept(folder, change.delete, days)
    return folder.overwrite(pa.concat_tables([kept, rows]), _predicate(folder.table, days))


def _days(table: Table, rows: pa.Table, delete: pa.Table) -> list[str]:
    if not table.partition:
        return []
    both = [*rows[table.partition].to_pylist(), *delete[table.partition].to_pylist()]
    return sorted({day.isoformat() for day in both})


def _predicate(table: Table, days: list[str]) -> str | None:
    if not table.partition:
        return None
    return f"{table.partition} IN ({', '.join(repr(day) for day in days)})"


def _kept(folder: DeltaFolder, delete: pa.Table, days: list[str]) -> pa.Table:
    files = folder.at(folder.version())
    paths = files.paths
    if folder.table.partition:
        touched = {f"{folder.table.partition}={day}" for day in days}
        paths = tuple(path for path in paths if touched & set(path.split("/")))
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("deleted", delete)
        keys = " AND ".join(f"t.{name(key)} = d.{name(key)}" for key in delete.column_names)
        kept: pa.Table = con.sql(
            f"SELECT t.* FROM ({scan(folder.table, files, paths=paths)}) AS t"  # noqa: S608
            f" ANTI JOIN deleted AS d ON {keys}"
        ).to_arrow_table()
    return kept.cast(folder.table.schema)
