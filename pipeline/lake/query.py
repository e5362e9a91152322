"""Questions of analysts: one SELECT over the lake, and nothing else.

Takes SQL text that nobody has reviewed.  It cannot write, cannot reach files or
hosts outside the lake, and cannot lift these limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from pipeline.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from pipeline.lake.lake import Lake


def run_select(
    lake: Lake,
    query: str,
    params: Sequence[object] | Mapping[str, object] | None = None,
    limit: int | None = None,
) -> pa.Table:
    """Return the rows of one SELECT, at most `limit`.

    Raises:
        QueryError: it is not exactly one SELECT, or DuckDB refused it.
    """
    with lake.connect() as con:
        check_select(con, query)
        con.execute("SET lock_configuration = true")
        # A SELECT may hold an INSERT since DuckDB 2.0.
        con.execute("BEGIN TRANSACTION READ ONLY")
        try:
            found = con.sql(query, params=params)
            if limit is not None:
                found = found.limit(limit)
            rows: pa.Table = found.to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(_message(error)) from error
    return rows


def check_select(con: duckdb.DuckDBPyConnection, query: str) -> None:
    """Refuse anything but exactly one SELECT.

    Raises:
        QueryError: with what was found instead.
    """
    try:
        statements = con.extract_statements(query)
    except duckdb.Error as error:
        raise QueryError(_message(error)) from error
    if len(statements) != 1:
        raise QueryError(f"expected one SELECT, found {len(statements)} statements")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"only SELECT may run here, not {kind.name}")


def _message(error: duckdb.Error) -> str:
    return str(error).strip()
