"""What of DuckDB's SQL becomes what in Spark; tests/integration/test_spark.py runs it."""

from __future__ import annotations

import pytest

from pipeline.detections.portable import spark_steps, to_spark
from pipeline.errors import RuleError


@pytest.mark.parametrize(
    ("duckdb", "spark"),
    [
        ("epoch(t)", "(UNIX_MICROS(t) / 1000000)"),
        ("l[1]", "GET(l, (1) - 1)"),
        ("l[-1]", "TRY_ELEMENT_AT(l, -1)"),
        ("ext['key']", "ext['key']"),
        ("list_slice(l, 1, $n)", "SLICE(l, 1, GREATEST((:n) - (1) + 1, 0))"),
        ("l[1:$n]", "SLICE(l, 1, GREATEST((:n) - (1) + 1, 0))"),
        ("list_contains(l, x)", "ARRAY_CONTAINS(ARRAY_COMPACT(l), x)"),
        (
            "list(x) FILTER (WHERE y)",
            "NULLIF(TRANSFORM(COLLECT_LIST(STRUCT(x AS v)) FILTER(WHERE y), e -> e.v), ARRAY())",
        ),
        (
            "max(x) FILTER (WHERE y) OVER (PARTITION BY z)",
            "MAX(CASE WHEN y THEN x END) OVER (PARTITION BY z)",
        ),
        ("regexp_replace(x, '^(a)b', '\\1$')", "REGEXP_REPLACE(x, '^(a)b', '$1\\\\$')"),
        ("x IN (1, 2) IS FALSE", "(x IN (1, 2)) IS FALSE"),
        ("CAST(x / 60 AS BIGINT)", "CAST(BROUND(x / 60) AS BIGINT)"),
    ],
)
def test_an_idiom_is_said_so_that_it_means_the_same(duckdb, spark):
    assert to_spark("a/rule.sql", f"SELECT {duckdb} FROM u") == f"SELECT {spark} FROM u"


def test_a_join_with_a_list_stays_in_its_place():
    sql = "SELECT b.y FROM a CROSS JOIN unnest(a.l) AS item(x) JOIN b ON b.x = item.x"

    assert to_spark("a/rule.sql", sql) == (
        "SELECT b.y FROM a CROSS JOIN LATERAL EXPLODE(a.l) AS item(x) JOIN b ON b.x = item.x"
    )


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("date_diff('day', a, b)", "DateDiff is not known to mean the same in Spark"),
        ("hash(a)", "hash is not known to mean the same in Spark"),
        ("len(a)", "write array_length(list) or length(text)"),
        ("l[i]", "write list_extract(list, index)"),
        ("a / b", "divide by nullif(y, 0)"),
        ("regexp_replace(a, 'b', 'c')", "anchor the pattern"),
        ("count(DISTINCT a) OVER ()", "group first and join"),
        ("CAST(a AS TIMESTAMP)", "write TIMESTAMPTZ"),
    ],
)
def test_what_would_differ_is_a_fault_with_its_line_and_a_way_out(sql, fault):
    with pytest.raises(RuleError) as raised:
        to_spark("a/rule.sql", f"-- a comment\nSELECT\n    {sql} AS x\nFROM u")

    assert raised.value.line == 3
    assert fault in raised.value.message


def test_common_parts_become_steps_only_where_they_would_be_read_too_often():
    parts = ["a0 AS (SELECT x FROM u)"]
    parts += [
        f"a{n} AS (SELECT l.x FROM a{n - 1} AS l JOIN a{n - 1} AS r USING (x))" for n in range(1, 8)
    ]
    few, many = ("WITH " + ", ".join(parts[:n]) + f" SELECT x FROM a{n - 1}" for n in (3, 8))

    assert [step.name for step in spark_steps("a/rule.sql", few)] == [""]
    assert [step.name for step in spark_steps("a/rule.sql", many)] == ["a3", "a6", ""]
    assert "a5 AS" not in spark_steps("a/rule.sql", many)[-1].sql
