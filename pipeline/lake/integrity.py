"""Check what is stored against what the logs say was stored.

Reads every file's footer and every row's offset; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ingest.batch import TopicPartition
from pipeline.lake.append import app_id
from pipeline.lake.tables import EVENT_TABLES, RAW_TABLES
from pipeline.lake.views import new_connection, scan, sql

if TYPE_CHECKING:
    import duckdb

    from pipeline.lake.delta import DeltaFolder, Files


@dataclass(frozen=True)
class Held:
    """What the raw tables hold of one partition; a gap may also be Kafka's own."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    records: int

    @property
    def gaps(self) -> int:
        """Return how many offsets between the first and the last are in no table."""
        return self.last_offset - self.first_offset + 1 - self.records


@dataclass(frozen=True)
class Verified:
    """The outcome of a check: `problems` is empty when all is well."""

    files: int
    rows: int
    held: list[Held]
    problems: list[str]


def verify(folders: dict[str, DeltaFolder]) -> Verified:
    """Compare files, row counts and offsets with the logs."""
    problems: list[str] = []
    files = rows = 0
    for folder in folders.values():
        folder.reopen()
        for path, size, count in folder.added():
            files += 1
            rows += count
            problems += _check_file(folder, path, size, count)
    if problems:
        # Rows cannot be read where files are broken.
        return Verified(files, rows, [], problems)
    with new_connection() as con:
        held = _held(con, folders)
        for name in EVENT_TABLES:
            problems += _doubled(con, folders[name])
    problems += _beyond(folders, held)
    return Verified(files, rows, held, problems)


def _check_file(folder: DeltaFolder, path: str, size: int, rows: int) -> list[str]:
    if not folder.is_local:
        return []
    file = Path(folder.uri) / unquote(path)
    name = f"{folder.table.name}: {path}"
    if not file.exists():
        return [f"{name}: the file is missing"]
    if file.stat().st_size != size:
        return [f"{name}: {file.stat().st_size} bytes on disk, {size} in the log"]
    try:
        found = pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException) as error:
        return [f"{name}: not a readable Parquet file: {type(error).__name__}"]
    return [] if found == rows else [f"{name}: {found} rows in the file, {rows} in the log"]


def _held(con: duckdb.DuckDBPyConnection, folders: dict[str, DeltaFolder]) -> list[Held]:
    places = " UNION ALL ".join(
        f"SELECT kafka_topic, kafka_partition, kafka_offset FROM ({_rows(folders[name])})"  # noqa: S608
        for name in RAW_TABLES
    )
    con.execute(f"CREATE OR REPLACE TEMP VIEW held AS {places}")
    return [Held(*row) for row in con.execute(sql("held_offsets")).fetchall()]


def _doubled(con: duckdb.DuckDBPyConnection, folder: DeltaFolder) -> list[str]:
    con.execute(f"CREATE OR REPLACE TEMP VIEW stored AS {_rows(folder)}")
    found = con.execute(sql("doubled_rows")).fetchall()
    return [
        f"{folder.table.name}: {topic}/{partition}: {count} records stored more than once"
        for topic, partition, count in found
    ]


def _beyond(folders: dict[str, DeltaFolder], held: list[Held]) -> list[str]:
    """Return the partitions of which a row lies beyond what any table says is stored."""
    problems = []
    for place in held:
        app = app_id(TopicPartition(place.topic, place.partition))
        stored = max(folders[name].stored(app) for name in RAW_TABLES)
        if place.last_offset > stored:
            problems.append(
                f"{place.topic}/{place.partition}: rows up to offset {place.last_offset},"
                f" but the tables say {stored}: recompute the offsets before consuming on"
            )
    return problems


def _rows(folder: DeltaFolder) -> str:
    files: Files = folder.at(folder.version())
    return scan(folder.table, files)
