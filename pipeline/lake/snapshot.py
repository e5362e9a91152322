"""Which files make up one consistent version of the whole lake.

Marks are looked at first, then the publication, then the raw tables: a mark
never hides a copy whose twin is not in the snapshot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb

from pipeline.lake.delta import Files
from pipeline.lake.marks import examined_version
from pipeline.lake.tables import EVENT_TABLES, RAW_TABLES, tables

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.lake.delta import DeltaFolder

Offsets = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Publication:
    """The versions of derived tables that belong together."""

    number: int
    covered: dict[str, int]
    versions: dict[str, int]
    offsets: Offsets
    as_of: datetime | None = None


NOTHING_PUBLISHED = Publication(0, {}, {}, {})


@dataclass(frozen=True)
class Snapshot:
    """One consistent version of every table."""

    publication: Publication
    examined: dict[str, int] = field(default_factory=dict)
    files: dict[str, Files] = field(default_factory=dict)


def take_snapshot(folders: dict[str, DeltaFolder]) -> Snapshot:
    """Look at every table in the order that keeps the whole consistent."""
    marks = folders["event_marks"]
    files = {"event_marks": marks.at(int(marks.reopen().version()))}
    examined = {name: examined_version(marks, name) for name in EVENT_TABLES}
    publication = read_publication(folders["publications"])
    for table in tables().values():
        folder = folders[table.name]
        if table.is_published and table.name in publication.versions:
            files[table.name] = folder.at(publication.versions[table.name])
        elif table.is_published:
            files[table.name] = Files(0, ())
        elif not table.is_raw and table.name != "event_marks":
            files[table.name] = folder.at()
    for name in RAW_TABLES:
        files[name] = folders[name].at()
    return Snapshot(publication, examined, files)


def read_publication(folder: DeltaFolder) -> Publication:
    """Return the publication in force, or NOTHING_PUBLISHED."""
    files = folder.at()
    if not files.paths:
        return NOTHING_PUBLISHED
    with duckdb.connect() as con:
        row: Any = con.execute(
            "SELECT publication_id, covered, versions, offsets, as_of FROM read_parquet($files)"
            " ORDER BY publication_id DESC LIMIT 1",
            {"files": list(files.paths)},
        ).fetchone()
    return Publication(row[0], json.loads(row[1]), json.loads(row[2]), json.loads(row[3]), row[4])
