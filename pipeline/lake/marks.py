"""Find duplicates and id conflicts once, so that no query has to.

Takes the rows committed since the last look, leaves rows in `event_marks`.  How
far a table has been examined stands in the commit of its marks: a crash or a
second examiner marks nothing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.errors import LakeError
from pipeline.lake.delta import Conflict, Files
from pipeline.lake.tables import EVENT_TABLES, FAMILY_OF, tables
from pipeline.lake.views import new_connection, scan, sql

if TYPE_CHECKING:
    import duckdb

    from pipeline.lake.delta import DeltaFolder
    from pipeline.lake.snapshot import Snapshot
    from pipeline.lake.tables import Table

_ATTEMPTS = 8

# Days looked at in one query: bounds the memory of a large backfill.
_DAYS = 16


def mark_events(folders: dict[str, DeltaFolder]) -> int:
    """Mark what has come since the last call; return the number of marks.

    Of equal events the one with the smallest (ingest_time, topic, partition,
    offset) stays.  May be called at any time and by several processes at once.
    """
    return sum(_mark_table(folders["event_marks"], folders[name]) for name in EVENT_TABLES)


def pending_marks(folders: dict[str, DeltaFolder], snapshot: Snapshot) -> pa.Table:
    """Return the marks that the rows of a snapshot still lack; writes nothing."""
    found = [tables()["event_marks"].schema.empty_table()]
    for name in EVENT_TABLES:
        files, examined = snapshot.files[name], snapshot.examined[name]
        if files.version != examined:
            fresh = files_since(folders[name], files, examined)
            found.append(_find(folders[name].table, files, fresh, snapshot.files["event_marks"]))
    return pa.concat_tables(found)


def examined_version(marks: DeltaFolder, table: str) -> int:
    """Return the version up to which a table has been examined, -1 for none of it."""
    return marks.stored(_app_id(table))


def _mark_table(marks: DeltaFolder, events: DeltaFolder) -> int:
    for _ in range(_ATTEMPTS):
        marks.reopen()
        name = events.table.name
        files = events.at()
        fresh = files_since(events, files, examined_version(marks, name))
        if not fresh:
            return 0
        rows = _find(events.table, files, fresh, marks.at(marks.version()))
        try:
            marks.append(rows, transactions={_app_id(name): files.version})
        except Conflict:
            continue
        return int(rows.num_rows)
    raise LakeError(f"event_marks: lost {_ATTEMPTS} commits in a row to other examiners")


def _find(table: Table, files: Files, fresh: set[str], known: Files) -> pa.Table:
    if not fresh:
        return tables()["event_marks"].schema.empty_table()
    family = FAMILY_OF[table.name]
    with new_connection() as con:
        marks = scan(tables()["event_marks"], known)
        con.execute(f"CREATE TABLE known AS {marks}")
        con.execute("DELETE FROM known WHERE family <> $1", [family])
        found = [_conflicts(con, table, files, fresh)]
        days = sorted({_folder(path) for path in fresh})
        for first in range(0, len(days), _DAYS):
            near = _within(files, set(days[first : first + _DAYS]))
            found.append(_duplicates(con, table, near, fresh))
    return pa.concat_tables(found)


def files_since(folder: DeltaFolder, files: Files, version: int | None) -> set[str]:
    """Return the files that were not there at an older version (None or -1: all).

    Where the log no longer reaches back that far these are all files.
    """
    if version is None or version < 0:
        return set(files.paths)
    if version == files.version:
        return set()
    try:
        return set(files.paths) - set(folder.at(version).paths)
    except LakeError:
        return set(files.paths)


def _conflicts(
    con: duckdb.DuckDBPyConnection,
    table: Table,
    files: Files,
    fresh: set[str],
) -> pa.Table:
    _view(con, "fresh", table, files, fresh)
    _view(con, "anywhere", table, files, set(files.paths))
    return _marks(con, sql("id_conflicts"), {"family": FAMILY_OF[table.name]})


def _duplicates(
    con: duckdb.DuckDBPyConnection,
    table: Table,
    files: Files,
    fresh: set[str],
) -> pa.Table:
    _view(con, "fresh", table, files, fresh & set(files.paths))
    _view(con, "around", table, files, set(files.paths))
    first, last = con.execute("SELECT min(event_time), max(event_time) FROM fresh").fetchall()[0]
    bound = {"family": FAMILY_OF[table.name], "from_time": first, "to_time": last}
    return _marks(con, sql("duplicates"), bound)


def _marks(con: duckdb.DuckDBPyConnection, query: str, bound: dict[str, object]) -> pa.Table:
    found: pa.Table = con.sql(query, params=bound).to_arrow_table()
    return found.cast(tables()["event_marks"].schema)


def _view(
    con: duckdb.DuckDBPyConnection,
    name: str,
    table: Table,
    files: Files,
    paths: set[str],
) -> None:
    rows = scan(table, files, paths=sorted(paths))
    con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {rows}")


def _within(files: Files, folders: set[str]) -> Files:
    paths = tuple(path for path in files.paths if _folder(path) in folders)
    return Files(files.version, paths, files.widened)


def _folder(path: str) -> str:
    return path.rsplit("/", 1)[0]


def _app_id(table: str) -> str:
    return f"examined:{table}"
