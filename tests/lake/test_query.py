"""One SELECT, and nothing that writes or looks elsewhere."""

import pytest

from pipeline.errors import QueryError
from pipeline.lake.query import run_select
from tests.factories import tool_call, write_events


def test_rows_come_back_bound_and_limited(lake):
    write_events(lake, [tool_call(tool_name=name) for name in "aab"])

    found = run_select(
        lake, "SELECT tool_name FROM tool_calls WHERE tool_name = $1", ["a"], limit=1
    )

    assert found.to_pylist() == [{"tool_name": "a"}]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW chains",
        "DROP VIEW chains",
        "CREATE TABLE t AS SELECT 1",
        "COPY (SELECT 1) TO 'x.csv'",
        "ATTACH ':memory:' AS other",
        "SET threads = 1",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "INSTALL delta",
        "EXPORT DATABASE 'x'",
        "EXPLAIN SELECT 1",
        "WITH gone AS (DELETE FROM internal.event_marks RETURNING *) SELECT * FROM gone",
        "SELECT * FROM query('DROP VIEW chains')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM enable_logging('QueryLog', storage = 'file', storage_path = 'x')",
        "SELECT nothing FROM tool_calls",
        "SELEC 1",
    ],
)
def test_anything_else_is_refused(lake, query):
    with pytest.raises(QueryError):
        run_select(lake, query)
