"""Keep the lake small and fast: compaction, vacuum, retention.

Readers and the ingest may go on meanwhile.  Tables that a build writes are
touched under the build's lock and published anew, with the same rows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import LakeError
from pipeline.lake.delta import Conflict
from pipeline.lake.lock import acquire
from pipeline.lake.marks import mark_events
from pipeline.lake.publication import BUILD, announce, put_back
from pipeline.lake.snapshot import NOTHING_PUBLISHED, read_publication
from pipeline.lake.tables import published_tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from pipeline.lake.delta import DeltaFolder

# Below this a merge of files costs more than it saves.
_MIN_FILES = 4

# Above this a file is left alone: as delta-rs does it.
_SMALL_BYTES = 64 * 1024 * 1024

_ATTEMPTS = 10


@dataclass(frozen=True)
class Compacted:
    """What a compaction did to one table."""

    table: str
    files_before: int
    files_after: int


def compact(lake: str, folders: dict[str, DeltaFolder]) -> list[Compacted]:
    """Merge small files, day by day, and tidy the logs; return what changed.

    A table whose commit is lost to another writer is left for the next time.

    Raises:
        LakeError: another one is at it.
    """
    # delta-rs refuses neither of two compactions of the same files, and keeps the rows of both.
    lock = acquire(lake, "compact")
    try:
        return _compact(lake, folders)
    finally:
        lock.release()


def _compact(lake: str, folders: dict[str, DeltaFolder]) -> list[Compacted]:
    done: list[Compacted] = []

    def one(folder: DeltaFolder) -> None:
        before = folder.at()
        crowded = _crowded(folder)
        if not crowded:
            return
        try:
            folder.compact(crowded)
        except Conflict:
            return
        folder.tidy()
        done.append(Compacted(folder.table.name, len(before.paths), len(folder.at().paths)))

    for folder in folders.values():
        if not folder.table.is_published:
            folder.reopen()
            one(folder)
    _republish(lake, folders, one)
    # Else every connection would look through the rewritten files for duplicates.
    mark_events(folders)
    return done


def vacuum(folders: dict[str, DeltaFolder]) -> int:
    """Delete files that no version of the last day needs; return their number."""
    published = read_publication(folders["publications"]).versions
    deleted = 0
    for name, folder in folders.items():
        folder.reopen()
        keep = [published[name]] if name in published else None
        deleted += folder.vacuum(keep)
    return deleted


def expire(lake: str, folders: dict[str, DeltaFolder], before: date) -> int:
    """Forget events of days before `before`; return how many files left the tables.

    Their offsets stay: nothing is read again.  The files go with the first
    vacuum a day later.

    Raises:
        LakeError: another one is at it.
    """
    lock = acquire(lake, "expire")
    try:
        return _expire(lake, folders, before)
    finally:
        lock.release()


def _expire(lake: str, folders: dict[str, DeltaFolder], before: date) -> int:
    gone = 0

    def one(folder: DeltaFolder) -> None:
        nonlocal gone
        if folder.table.partition:
            gone += folder.delete_days(before)

    for folder in folders.values():
        if folder.table.is_raw:
            _insist(folder, one)
    earlier = f"event_date < '{before.isoformat()}'"
    _insist(folders["event_marks"], lambda marks: marks.delete_rows(earlier))
    _republish(lake, folders, one)
    mark_events(folders)
    return gone


def _insist(folder: DeltaFolder, change: Callable[[DeltaFolder], object]) -> None:
    """Apply a change anew for as long as another writer, such as a compaction, was faster.

    Raises:
        LakeError: it always was.
    """
    for _ in range(_ATTEMPTS):
        folder.reopen()
        try:
            change(folder)
        except Conflict:
            continue
        return
    raise LakeError(f"{folder.table.name}: lost {_ATTEMPTS} commits in a row to other writers")


def _crowded(folder: DeltaFolder) -> list[str | None]:
    """Return the partitions (None: the table has none) that hold several small files."""
    small = Counter(day for day, size in folder.sizes() if size < _SMALL_BYTES)
    return sorted((day for day, count in small.items() if count >= _MIN_FILES), key=str)


def _republish(
    lake: str, folders: dict[str, DeltaFolder], change: Callable[[DeltaFolder], None]
) -> None:
    """Apply a change that alters no published row to the tables of the builds."""
    lock = acquire(lake, BUILD)
    try:
        folders["publications"].reopen()
        publication = read_publication(folders["publications"])
        if publication == NOTHING_PUBLISHED:
            return
        versions = {}
        for name in published_tables():
            put_back(folders[name], publication.versions.get(name, 0))
            change(folders[name])
            versions[name] = folders[name].version()
        if versions != publication.versions:
            announce(folders["publications"], publication, versions)
    finally:
        lock.release()
