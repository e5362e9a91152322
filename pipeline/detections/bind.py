"""Run a rule's statement with its values bound, and say where a fault stands.

Takes SQL text and values by name; leaves an Arrow table.  Never formats a value
into SQL, and binds only the names that the statement uses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import duckdb

from pipeline.detections.rule import nearest
from pipeline.errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

_LONGEST_MESSAGE = 500


def run_statement(
    con: duckdb.DuckDBPyConnection, file: str, sql: str, values: Mapping[str, Any]
) -> pa.Table:
    """Return the rows of one SELECT; of `values` those are bound that it names.

    Raises:
        RuleError: with the file and line at which DuckDB stumbled.
    """
    statement = single_select(con, file, sql)
    try:
        bound = {name: values[name] for name in statement.named_parameters}
        return con.sql(statement.query, params=bound).to_arrow_table()
    except KeyError as error:
        name = str(error.args[0])
        line = _line_of(sql, rf"\${re.escape(name)}\b")
        message = f'"${name}" is not declared in rule.toml{nearest(name, values)}'
        raise RuleError(file, line, message) from None
    except duckdb.Error as error:
        raise explain(con, file, _with_line(con, statement.query, bound) or error) from error


def single_select(con: duckdb.DuckDBPyConnection, file: str, sql: str) -> Any:
    """Return the one SELECT that a file must hold, parsed.

    Raises:
        RuleError: it holds something else.
    """
    try:
        statements = con.extract_statements(sql)
    except duckdb.Error as error:
        raise explain(con, file, error) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise RuleError(file, 1, f"must be one SELECT, but holds {len(statements)} statement(s)")
    return statements[0]


def explain(con: duckdb.DuckDBPyConnection, file: str, error: duckdb.Error) -> RuleError:
    """Return DuckDB's complaint as a fault at its line, with the nearest right name."""
    text = str(error)
    line = re.search(r"^LINE (\d+):", text, re.MULTILINE)
    message = (
        text.split("\n", maxsplit=1)[0].partition("Error: ")[2] or text.split("\n", maxsplit=1)[0]
    )
    message = message[:_LONGEST_MESSAGE]
    table = re.search(r"Table with name (\S+) does not exist", message)
    column = re.search(r'column "?(?:named )?"?(\w+)"? not found|a column named "(\w+)"', message)
    if table:
        message = f'table "{table[1]}" is not in needs.tables'
        message += nearest(table[1], _tables(con))
    elif column:
        name = column[1] or column[2]
        message = f'column "{name}" does not exist{nearest(name, _columns(con))}'
    return RuleError(file, int(line[1]) if line else 1, message)


def _with_line(
    con: duckdb.DuckDBPyConnection, query: str, bound: Mapping[str, Any]
) -> duckdb.Error | None:
    """Return the same complaint with its line, where it does not take rows to see it."""
    try:
        con.execute(f"EXPLAIN {query}", dict(bound))
    except duckdb.Error as error:
        return error
    return None


def _tables(con: duckdb.DuckDBPyConnection) -> Iterable[str]:
    return {row[0] for row in con.execute("SELECT view_name FROM duckdb_views()").fetchall()}


def _columns(con: duckdb.DuckDBPyConnection) -> Iterable[str]:
    found = con.execute("SELECT column_name FROM duckdb_columns() WHERE NOT internal")
    return {row[0] for row in found.fetchall()}


def _line_of(sql: str, pattern: str) -> int:
    lines = enumerate(sql.splitlines(), start=1)
    return next((number for number, line in lines if re.search(pattern, line)), 1)
