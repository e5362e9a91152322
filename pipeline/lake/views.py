"""DuckDB views over the files of one version.

Takes a snapshot, leaves views in a connection: each names its files, so that
compaction, new commits and a new publication never change what a query sees.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from pipeline.lake.tables import EVENT_TABLES, FAMILY_OF, declaration, duck_type, tables

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from pipeline.lake.delta import Files
    from pipeline.lake.snapshot import Snapshot
    from pipeline.lake.tables import Table

CONFLICT_DOC = "Another event bears the same tenant, source and event_id."

# What a lake needs for itself; no view for analysts.
INTERNAL = ("event_marks", "publications")


def new_connection() -> duckdb.DuckDBPyConnection:
    """Return an in-memory connection in UTC that takes no table from Python variables."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET python_enable_replacements = false")
    con.execute("SET temp_directory = $1", [str(Path(tempfile.gettempdir()) / "delegraph-spill")])
    return con


def halve_memory(con: duckdb.DuckDBPyConnection) -> None:
    """Let DuckDB take half of the memory at hand, and write to disk what needs more.

    Its default is four fifths; Arrow tables, findings and Delta logs are held beside it.
    """
    (default,) = con.execute("SELECT current_setting('memory_limit')").fetchall()[0]
    size, unit = default.split()
    con.execute("SET memory_limit = $1", [f"{float(size) * 5 / 8:.2f} {unit}"])


def sql(name: str) -> str:
    """Return one statement of `sql/`."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def text(value: str) -> str:
    """Return an SQL string literal, for definitions, where nothing can be bound."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """Return a quoted identifier."""
    return '"' + value.replace('"', '""') + '"'


def scan(table: Table, files: Files, *, paths: Iterable[str] | None = None) -> str:
    """Return a SELECT of a table's columns from its files, in declared order and type."""
    chosen = list(files.paths if paths is None else paths)
    columns = ", ".join(name(field.name) for field in table.schema)
    nothing = ", ".join(
        f"CAST(NULL AS {duck_type(field.type)}) AS {name(field.name)}" for field in table.schema
    )
    nothing = f"SELECT {nothing} WHERE false"
    if not chosen:
        return nothing
    source = read_files(table, chosen, union_by_name=files.widened)
    if files.widened:
        # No file need have the newest column yet; the empty part brings its type.
        source = f"({nothing} UNION ALL BY NAME SELECT * FROM {source})"  # noqa: S608
    return f"SELECT {columns} FROM {source}"  # noqa: S608


def read_files(table: Table, paths: Iterable[str], *, union_by_name: bool = False) -> str:
    """Return a `read_parquet` call; the partition column comes from the folder's name."""
    listed = ", ".join(text(path) for path in paths)
    return f"read_parquet([{listed}]{read_options(table, union=union_by_name)})"


def read_options(table: Table, *, union: bool) -> str:
    """Return the options of `read_parquet` for a table's files."""
    options = ""
    if table.partition:
        options = f", hive_partitioning = true, hive_types = {{'{table.partition}': DATE}}"
    return f"{options}, union_by_name = true" if union else options


def define_events(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, pending: pa.Table) -> None:
    """Define `internal.<table>` (all rows) and the event views that show each event once."""
    con.execute("CREATE SCHEMA IF NOT EXISTS internal")
    marks = scan(tables()["event_marks"], snapshot.files["event_marks"])
    con.execute(f"CREATE TABLE internal.event_marks AS {marks}")
    if pending.num_rows:
        con.register("pending_marks", pending)
        con.execute("INSERT INTO internal.event_marks FROM pending_marks")
        con.unregister("pending_marks")
    found = con.execute("SELECT DISTINCT family, mark FROM internal.event_marks").fetchall()
    for table_name in EVENT_TABLES:
        table = tables()[table_name]
        rows = scan(table, snapshot.files[table_name])
        con.execute(f"CREATE VIEW internal.{table_name} AS {rows}")
        query = once(
            table_name, {mark for family, mark in found if family == FAMILY_OF[table_name]}
        )
        con.execute(f"CREATE VIEW {table_name} AS {query}")


def once(table_name: str, marks: set[str], source: str | None = None) -> str:
    """Return a SELECT that shows each event once; it costs nothing without marks."""
    family = text(FAMILY_OF[table_name])
    columns = []
    for field in tables()[table_name].schema:
        columns.append(f"e.{name(field.name)}")
        if field.name == "event_uid":
            columns.append(f"{_conflict(family, marks)} AS id_conflict")
    query = f"SELECT {', '.join(columns)} FROM {source or 'internal.' + table_name} AS e"  # noqa: S608
    if "duplicate" in marks:
        query += (
            " ANTI JOIN (SELECT * FROM internal.event_marks"  # noqa: S608
            f" WHERE family = {family} AND mark = 'duplicate') AS m"
            " ON e.event_date = m.event_date AND e.kafka_topic = m.kafka_topic"
            " AND e.kafka_partition = m.kafka_partition AND e.kafka_offset = m.kafka_offset"
            " AND e.event_uid = m.event_uid"
        )
    return query


def _conflict(family: str, marks: set[str]) -> str:
    if "id_conflict" not in marks:
        return "false"
    return (
        "e.event_uid IN (SELECT event_uid FROM internal.event_marks"  # noqa: S608
        f" WHERE family = {family} AND mark = 'id_conflict')"
    )


def define_views(
    con: duckdb.DuckDBPyConnection, snapshot: Snapshot, pending: pa.Table, *, comments: bool = True
) -> None:
    """Define every view that analysts and rules query, with comments and `help()`."""
    define_events(con, snapshot, pending)
    for table in tables().values():
        if table.name in EVENT_TABLES or table.name in INTERNAL:
            continue
        rows = scan(table, snapshot.files[table.name])
        con.execute(f"CREATE VIEW {table.name} AS {rows}")
    con.execute(f"CREATE VIEW calls AS {sql('calls')}")
    if comments:
        con.execute(";\n".join(comment_statements()))
    con.execute(sql("help"))


def comment_statements() -> list[str]:
    """Return the COMMENT statements of all views."""
    statements = []
    for table in tables().values():
        if table.name not in INTERNAL:
            statements += _comments(table.name, table.doc, _shown(table))
    calls, _ = declaration("calls")
    shown = _shown(tables()["tool_calls"]) | _docs(calls.schema)
    return statements + _comments("calls", calls.doc, shown)


def _shown(table: Table) -> dict[str, str]:
    docs = _docs(table.schema)
    if table.name in EVENT_TABLES:
        docs["id_conflict"] = CONFLICT_DOC
    return docs


def _docs(schema: pa.Schema) -> dict[str, str]:
    return {field.name: (field.metadata or {}).get(b"doc", b"").decode() for field in schema}


def _comments(view: str, doc: str, columns: dict[str, str]) -> list[str]:
    return [
        f"COMMENT ON VIEW {view} IS {text(doc)}",
        *(f"COMMENT ON COLUMN {view}.{name(c)} IS {text(d)}" for c, d in columns.items()),
    ]
