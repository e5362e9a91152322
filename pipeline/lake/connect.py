"""The init script that opens the lake in any DuckDB client.

Plain SQL without extensions: it reads the Delta log itself each time it runs,
so that it shows what is published then.  Works in DuckDB 1.4, 1.5 and 2.0.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from pipeline.errors import LakeError
from pipeline.lake.fsync import replace_file
from pipeline.lake.tables import EVENT_TABLES, tables
from pipeline.lake.views import (
    INTERNAL,
    comment_statements,
    name,
    once,
    read_options,
    sql,
    text,
)

if TYPE_CHECKING:
    from pipeline.lake.delta import DeltaFolder
    from pipeline.lake.tables import Table

# Larger than any version; newest.
_NEWEST = str(2**62)


def write_script(lake: str, folders: dict[str, DeltaFolder], marker: str) -> Path:
    """Write `connect/init.sql` into a local lake and return its path.

    Raises:
        LakeError: the lake is in an object store.
    """
    if "://" in lake:
        raise LakeError(f"{lake}: the init script opens local lakes only")
    home = Path(lake) / "connect"
    for folder in folders.values():
        folder.ensure_checkpoint()
        template = _template(home, folder.table)
        template.parent.mkdir(parents=True, exist_ok=True)
        schema = folder.table.schema
        stored = [field for field in schema if field.name != folder.table.partition]
        pq.write_table(schema.empty_table().select([f.name for f in stored]), template)
    script = home / "init.sql"
    replace_file(script, _script(lake, home, marker))
    return script


def _template(home: Path, table: Table) -> Path:
    """Return the empty file that brings a table's columns and types where no row does."""
    folder = home / "templates" / table.name
    return (folder / f"{table.partition}=1970-01-01" if table.partition else folder) / "0.parquet"


def _script(lake: str, home: Path, marker: str) -> str:
    # Marks before everything else, raw tables last: see snapshot.py.
    order = sorted(tables().values(), key=lambda t: (t.is_raw, t.name not in INTERNAL))
    parts = ["SET TimeZone = 'UTC';", "CREATE SCHEMA IF NOT EXISTS internal;"]
    for table in order:
        parts.append(_files(lake, home, table, marker))
        if table.name == "publications":
            parts.append(sql("connect_published"))
    parts += [f"{_view(table)};" for table in order if table.name != "publications"]
    parts.append(f"CREATE OR REPLACE VIEW calls AS {sql('calls')};")
    parts += [f"{statement};" for statement in comment_statements()]
    parts.append(f"{sql('help')};")
    return "\n".join(parts)


def _files(lake: str, home: Path, table: Table, marker: str) -> str:
    last = _NEWEST
    if table.is_published:
        key = text(f"$.{table.name}")
        found = f"json_extract(getvariable('dg_published'), {key})"
        last = f"coalesce(CAST({found} AS BIGINT), 0)"
    return Template(sql("connect_table")).substitute(
        table=table.name,
        log=text(f"{lake}/{table.name}/_delta_log"),
        folder=text(f"{lake}/{table.name}"),
        marker=text(f"{lake}/{marker}"),
        template=text(str(_template(home, table))),
        last=last,
        files=f"dg_files_{table.name}",
    )


def _view(table: Table) -> str:
    columns = ", ".join(name(field.name) for field in table.schema)
    source = f"read_parquet(getvariable('dg_files_{table.name}'){read_options(table, union=True)})"
    rows = f"SELECT {columns} FROM {source}"  # noqa: S608
    if table.name == "event_marks":
        return f"CREATE OR REPLACE VIEW internal.event_marks AS {rows}"
    if table.name in EVENT_TABLES:
        shown = once(table.name, {"duplicate", "id_conflict"})
        return (
            f"CREATE OR REPLACE VIEW internal.{table.name} AS {rows};\n"
            f"CREATE OR REPLACE VIEW {table.name} AS {shown}"
        )
    return f"CREATE OR REPLACE VIEW {table.name} AS {rows}"
