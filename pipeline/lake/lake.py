"""The lake: a folder or an object-store prefix that holds one Delta table per name.

Takes rows with their offsets from ingest, derived tables from the stages to the
right; hands out connections that see one consistent version of everything.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import LakeError
from pipeline.lake.append import Appender
from pipeline.lake.connect import write_script
from pipeline.lake.delta import Conflict, DeltaFolder, storage_options
from pipeline.lake.fsync import sync_file
from pipeline.lake.integrity import Verified, verify
from pipeline.lake.maintain import Compacted, compact, expire, vacuum
from pipeline.lake.marks import mark_events, pending_marks
from pipeline.lake.publication import BuildSession, start_build
from pipeline.lake.rewrite import conform
from pipeline.lake.snapshot import take_snapshot
from pipeline.lake.tables import RAW_TABLES, tables
from pipeline.lake.views import define_views, new_connection, scan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import date

    import duckdb
    import pyarrow as pa

    from pipeline.ingest.batch import TopicPartition

MARKER = "delegraph-lake.json"
_FORMAT = 1
_ATTEMPTS = 8


class Lake:
    """An open lake.  Safe to use from several threads."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.is_local = "://" not in uri
        options = None if self.is_local else storage_options()
        self._options = options
        self._appenders = {name: Appender(self._folder(name)) for name in RAW_TABLES}

    def offsets(
        self, table: str, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Return the last offset that a raw table stores for each partition, -1 if none.

        Call it on assignment: it makes the caller the owner of the partitions in
        all raw tables, and their offsets must not move without it from then on.
        """
        for name, appender in self._appenders.items():
            if name != table:
                appender.forget(partitions)
        return self._appenders[table].offsets(partitions)

    def append(self, table: str, rows: pa.Table, offsets: Mapping[TopicPartition, int]) -> int:
        """Commit rows and the offsets they end at; return how many rows were new.

        Raises:
            FencedError: another writer owns one of the partitions now.
            LakeError: the store failed; nothing of the batch is stored.
        """
        return self._appenders[table].append(rows, offsets)

    def connect(
        self, *, comments: bool = True, scratch: Path | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Return a connection with all views, over one consistent version of all tables.

        It can read the lake and nothing else outside the process, but may also use
        the folder `scratch`.  `comments` False saves a quarter of a second where
        nobody reads them.
        """
        folders = self.folders()
        snapshot = take_snapshot(folders)
        con = new_connection()
        define_views(con, snapshot, pending_marks(folders, snapshot), comments=comments)
        if self.is_local:
            allowed = [self.uri, *([str(scratch)] if scratch else [])]
            con.execute("SET allowed_directories = $1", [allowed])
            con.execute("SET enable_external_access = false")
        return con

    def connect_build(self) -> BuildSession:
        """Start a build of the derived tables; only one can run at a time.

        Raises:
            LakeError: another build is running.
        """
        self.mark_events()
        return start_build(self.uri, self.folders(), new_connection())

    def mark_events(self) -> int:
        """Mark duplicates and id conflicts among the rows not yet examined; return their number."""
        return mark_events(self.folders())

    def merge(self, table: str, rows: pa.Table) -> None:
        """Replace the rows that share the table's key with one of `rows`, add the others.

        May be called twice with the same rows.
        """
        if not rows.num_rows:
            return
        declared = tables()[table]
        if rows.group_by(list(declared.key)).aggregate([]).num_rows != rows.num_rows:
            raise LakeError(f"{table}: two rows share the key ({', '.join(declared.key)})")
        self._retried(table, lambda folder: folder.merge(conform(declared, rows), declared.key))

    def append_rows(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table that only grows (`finding_history`, `deliveries`)."""
        declared = tables()[table]
        if rows.num_rows:
            self._retried(table, lambda folder: folder.append(conform(declared, rows)))

    def replace_table(self, table: str, rows: pa.Table) -> None:
        """Replace all rows of a table (`identities`) in one commit."""
        declared = tables()[table]
        self._retried(table, lambda folder: folder.overwrite(conform(declared, rows)))

    def read_table(self, table: str) -> pa.Table:
        """Return all rows of one small table at its newest version."""
        folder = self._folder(table)
        with new_connection() as con:
            rows: pa.Table = con.sql(scan(folder.table, folder.at())).to_arrow_table()
        return rows

    def connect_script(self) -> Path:
        """Write and return the init script for other DuckDB clients (`duckdb -init`)."""
        return write_script(self.uri, self.folders(), MARKER)

    def compact(self) -> list[Compacted]:
        """Merge small files and tidy the logs; readers and the ingest may go on.

        Raises:
            LakeError: another compaction is running.
        """
        return compact(self.uri, self.folders())

    def vacuum(self) -> int:
        """Delete files that no version of the last day needs; return their number."""
        return vacuum(self.folders())

    def expire(self, before: date) -> int:
        """Forget events of days before `before`; return how many files left the tables."""
        return expire(self.uri, self.folders(), before)

    def verify(self) -> Verified:
        """Compare files, row counts and offsets with what the logs say; changes nothing."""
        return verify(self.folders())

    def folders(self) -> dict[str, DeltaFolder]:
        """Return every table with a handle of its own."""
        return {name: self._folder(name) for name in tables()}

    def _folder(self, name: str) -> DeltaFolder:
        return DeltaFolder(f"{self.uri}/{name}", tables()[name], self._options)

    def _retried(self, table: str, write: Callable[[DeltaFolder], object]) -> None:
        for _ in range(_ATTEMPTS):
            folder = self._folder(table)
            folder.reopen()
            folder.widen()
            try:
                write(folder)
            except Conflict:
                continue
            return
        raise LakeError(f"{table}: lost {_ATTEMPTS} commits in a row to other writers")


def open_lake(path: str, *, create: bool = False) -> Lake:
    """Open a lake; with `create`, make it in an absent or empty folder.

    Raises:
        LakeError: there is no lake, or the folder holds other things.
    """
    if "://" in path:
        lake = Lake(path.rstrip("/"))
    else:
        folder = Path(path).absolute()
        _claim(folder, create=create)
        lake = Lake(str(folder))
    for table in lake.folders().values():
        if not table.exists():
            table.refuse_orphans()
            table.create()
    return lake


def _claim(folder: Path, *, create: bool) -> None:
    if set("*?[") & set(str(folder)):
        raise LakeError(f"{folder}: a lake's path cannot hold * ? or [")
    marker = folder / MARKER
    if marker.exists():
        return
    if folder.exists() and not folder.is_dir():
        raise LakeError(f"{folder}: is a file, not a lake")
    if folder.exists() and any(folder.iterdir()):
        raise LakeError(f"{folder}: holds other things and is not a delegraph lake")
    if not create:
        raise LakeError(f"{folder}: no lake there; `delegraph ingest` makes one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        marker.write_text(json.dumps({"format": _FORMAT, "created_at": made}) + "\n")
        sync_file(marker)
    except OSError as error:
        raise LakeError(f"{folder}: cannot make a lake here: {error.strerror}") from error
