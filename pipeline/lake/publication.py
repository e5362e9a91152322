"""Derived tables that appear together or not at all.

A build writes each derived table in a commit of its own; readers look only at
the versions that the newest row of `publications` names.  A crash in the middle
therefore shows nothing, and the next build first puts the heads back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from pipeline.errors import FencedError, LakeError
from pipeline.lake.delta import Conflict
from pipeline.lake.lock import Lock, acquire
from pipeline.lake.marks import files_since, pending_marks
from pipeline.lake.rewrite import Change, write_change
from pipeline.lake.snapshot import Offsets, Publication, Snapshot, take_snapshot
from pipeline.lake.tables import EVENT_TABLES, FAMILY_OF, published_tables, tables
from pipeline.lake.views import define_events, once, scan

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb

    from pipeline.lake.delta import DeltaFolder

BUILD = "build"


@dataclass
class BuildSession:
    """One build of the derived tables, from one consistent version to one publication.

    `con` sees `tool_calls`, `token_events`, `secret_events` (each event once),
    `prev_<table>` (as published) and the views that `fresh` names.  `previous`
    says what the last publication covers; None when there is none.
    """

    con: duckdb.DuckDBPyConnection
    previous: dict[str, int] | None
    fresh: dict[str, str]
    _folders: dict[str, DeltaFolder]
    _snapshot: Snapshot
    _lock: Lock

    def publish(self, changes: Mapping[str, Change], as_of: datetime) -> int:
        """Write the changes and make them visible at once; return the publication's number.

        Ends the session.  Tables without a change stay as published.

        Raises:
            FencedError: another build has published meanwhile.
        """
        unknown = set(changes) - set(published_tables())
        if unknown:
            raise LakeError(f"not tables that a build publishes: {', '.join(sorted(unknown))}")
        versions = {name: self._folders[name].version() for name in published_tables()}
        try:
            for name, change in changes.items():
                versions[name] = write_change(self._folders[name], change)
            number = announce(self._folders["publications"], self._covering(as_of), versions)
        except Conflict as error:
            raise FencedError(
                f"{error}: another build wrote at the same time; this one is thrown away"
            ) from error
        self.close()
        return number

    def close(self) -> None:
        """End the session and let the next build in; may be called twice."""
        self.con.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _covering(self, as_of: datetime) -> Publication:
        """Return the publication that this build makes, but for its number and versions."""
        covered = {name: self._snapshot.files[name].version for name in EVENT_TABLES}
        last = self._snapshot.publication
        return Publication(last.number, covered, last.versions, self._offsets(), as_of)

    def _offsets(self) -> Offsets:
        merged = {name: dict(last) for name, last in self._snapshot.publication.offsets.items()}
        for name in EVENT_TABLES:
            found = self.con.execute(
                "SELECT kafka_topic || '/' || kafka_partition, max(kafka_offset)"  # noqa: S608
                f" FROM internal.new_{name} GROUP BY ALL"
            ).fetchall()
            merged.setdefault(name, {}).update(found)
        return merged


def announce(folder: DeltaFolder, made: Publication, versions: Mapping[str, int]) -> int:
    """Put a publication in force behind the one numbered `made.number`; return its number.

    Through the handle from before the work: a second builder's row is refused.

    Raises:
        Conflict: another build has published meanwhile.
    """
    number = made.number + 1
    row = {
        "publication_id": number,
        "published_at": datetime.now(UTC),
        "as_of": made.as_of,
        "covered": json.dumps(made.covered),
        "versions": json.dumps(versions),
        "offsets": json.dumps(made.offsets),
    }
    rows = pa.Table.from_pylist([row], schema=tables()["publications"].schema)
    folder.append(rows, transactions={BUILD: number})
    return number


def start_build(
    lake: str, folders: dict[str, DeltaFolder], con: duckdb.DuckDBPyConnection
) -> BuildSession:
    """Take the lock, put the heads back to what is published, and define the views."""
    lock = acquire(lake, BUILD)
    try:
        folders["publications"].reopen()
        snapshot = take_snapshot(folders)
        for name in published_tables():
            put_back(folders[name], snapshot.publication.versions.get(name, 0))
        define_events(con, snapshot, pending_marks(folders, snapshot))
        _define_previous(con, snapshot)
        fresh = {name: _define_fresh(con, snapshot, folders[name]) for name in EVENT_TABLES}
    except BaseException:
        lock.release()
        raise
    covered = snapshot.publication.covered
    return BuildSession(con, covered or None, fresh, folders, snapshot, lock)


def put_back(folder: DeltaFolder, version: int) -> None:
    """Make the published rows current again where a crashed build left others."""
    folder.reopen()
    if folder.version() != version and folder.at(version).paths != folder.at().paths:
        folder.restore(version)


def _define_previous(con: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    for name in published_tables():
        con.execute(f"CREATE VIEW prev_{name} AS {scan(tables()[name], snapshot.files[name])}")


def _define_fresh(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, folder: DeltaFolder) -> str:
    """Define `new_<table>`: the rows behind the offsets that the last publication covers.

    The files are only a pruning; the offsets decide, so that a compacted file
    brings no old rows back.
    """
    table = folder.table
    files = snapshot.files[table.name]
    covered = snapshot.publication.offsets.get(table.name, {})
    fresh = files_since(folder, files, snapshot.publication.covered.get(table.name))
    rows = scan(table, files, paths=sorted(fresh))
    con.execute(f"CREATE TABLE internal.covered_{table.name} (place VARCHAR, last_offset BIGINT)")
    if covered:
        con.execute(
            f"INSERT INTO internal.covered_{table.name} SELECT unnest($places), unnest($offsets)",
            {"places": list(covered), "offsets": list(covered.values())},
        )
        rows = (
            f"SELECT r.* FROM ({rows}) AS r"  # noqa: S608
            f" LEFT JOIN internal.covered_{table.name} AS c"
            " ON r.kafka_topic || '/' || r.kafka_partition = c.place"
            " WHERE r.kafka_offset > coalesce(c.last_offset, -1)"
        )
    con.execute(f"CREATE VIEW internal.new_{table.name} AS {rows}")
    marks = con.execute(
        "SELECT DISTINCT mark FROM internal.event_marks WHERE family = $1",
        [FAMILY_OF[table.name]],
    ).fetchall()
    view = f"new_{table.name}"
    shown = once(table.name, {mark for (mark,) in marks}, f"internal.{view}")
    con.execute(f"CREATE VIEW {view} AS {shown}")
    return view
