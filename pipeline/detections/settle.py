"""Work views out once, where many rules would each work them out again.

Takes the rules of one run and a connection.  Of a large lake it leaves `calls` as a
view over a file with the columns that these rules name: the view joins three tables
by text, and on millions of calls that costs more than what a rule then does with the
rows.  Of a small lake it leaves everything in memory.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pipeline.lake.views import name, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import duckdb

    from pipeline.detections.rule import Rule

LEAST_CALLS = 500_000
"""Below it the rules of a run cost less than the file."""
FEW_ROWS = 50_000
"""Up to so many rows in every table, opening files for each rule costs more than the rules."""
LEAST_READERS = 4
"""Statements that read `calls`; the file costs about as much as three of them."""
VIEW = "calls"
_ALWAYS_READ = {"tool_calls", "token_events", "secret_events", "watermarks", "source_gaps"}
_WRITTEN = {"findings", "finding_history", "runs", "outbox", "deliveries"}
"""Changed in the run itself, and read again."""


def settle_calls(con: duckdb.DuckDBPyConnection, rules: Iterable[Rule], scratch: Path) -> bool:
    """Let `calls` read a file in `scratch` if that pays; return whether it does.

    The connection must be allowed to write to `scratch`, which is the caller's to
    delete after the connection.
    """
    statements = {statement for rule in rules for statement in rule.sql.values()}
    readers = [statement for statement in statements if re.search(rf"\b{VIEW}\b", statement)]
    if len(readers) < LEAST_READERS:
        return False
    (calls,) = con.execute("SELECT count(*) FROM call_links WHERE is_primary").fetchall()[0]
    if calls < LEAST_CALLS:
        return False
    columns = ", ".join(name(column) for column in columns_read(con, readers))
    file = text(str(scratch / f"{VIEW}.parquet"))
    con.execute("SET preserve_insertion_order = false")
    con.execute(
        f"COPY (SELECT {columns} FROM {VIEW}) TO {file} (FORMAT parquet, COMPRESSION lz4)"  # noqa: S608
    )
    con.execute("RESET preserve_insertion_order")
    con.execute(f"CREATE OR REPLACE VIEW {VIEW} AS SELECT * FROM read_parquet({file})")  # noqa: S608
    return True


def hold_few(con: duckdb.DuckDBPyConnection, rules: Iterable[Rule]) -> bool:
    """Hold what the rules read in memory if it is little; return whether it is.

    Each statement would otherwise open the files of all views behind the ones it names.
    """
    statements = {statement for rule in rules for statement in rule.sql.values()}
    if len(statements) < LEAST_READERS:
        return False
    words = {word for statement in statements for word in re.findall(r"\w+", statement)}
    found = con.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'"
    ).fetchall()
    views = sorted({row[0] for row in found} & (words | _ALWAYS_READ) - _WRITTEN)
    for view in views:
        (rows,) = con.execute(f"SELECT count(*) FROM main.{name(view)}").fetchall()[0]  # noqa: S608
        if rows > FEW_ROWS:
            return False
    for view in views:
        # A temporary table stands before the view of its name.
        con.execute(f"CREATE TEMP TABLE {name(view)} AS FROM main.{name(view)}")
    return True


def columns_read(con: duckdb.DuckDBPyConnection, statements: Sequence[str]) -> list[str]:
    """Return the columns of `calls` that statements may read: every one if one asks for `*`."""
    described = con.execute(f"SELECT column_name FROM (DESCRIBE {VIEW})").fetchall()  # noqa: S608
    columns = [row[0] for row in described]
    if any(_reads_every_column(con, statement) for statement in statements):
        return columns
    words = {word for statement in statements for word in re.findall(r"\w+", statement)}
    # A file needs one column, even if all that is asked is how many calls there are.
    return [column for column in columns if column in words] or columns[:1]


def _reads_every_column(con: duckdb.DuckDBPyConnection, statement: str) -> bool:
    (parsed,) = con.execute("SELECT json_serialize_sql($1)", [statement]).fetchall()[0]
    tree = json.loads(parsed)
    if tree["error"]:
        return True
    return any(
        _is_whole_row(part, aliases)
        for node in _nodes(tree)
        if node.get("type") == "SELECT_NODE" and (aliases := set(_aliases(node["from_table"])))
        for part in _nodes(node["select_list"])
    )


def _aliases(source: Mapping[str, Any]) -> Iterator[str]:
    """Return the names that `calls` goes by in one FROM, without its subqueries."""
    if source.get("type") == "BASE_TABLE" and source["table_name"] == VIEW:
        yield source["alias"] or VIEW
    for side in ("left", "right"):
        if isinstance(source.get(side), dict):
            yield from _aliases(source[side])


def _is_whole_row(part: Mapping[str, Any], aliases: set[str]) -> bool:
    """Return whether an expression is `*`, `alias.*`, or an alias that stands for the row."""
    if part.get("class") == "STAR":
        return not part["relation_name"] or part["relation_name"] in aliases
    names = part.get("column_names") or []
    return part.get("class") == "COLUMN_REF" and len(names) == 1 and names[0] in aliases


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = tree.values()
    elif not isinstance(tree, list):
        return
    for part in tree:
        yield from _nodes(part)
