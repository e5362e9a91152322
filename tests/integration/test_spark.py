"""Every rule says the same on Spark as on DuckDB, but for those that spark_gaps.toml lists."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest

from pipeline.detections.rule import RULES, find_rules, read_rule
from pipeline.errors import RuleError
from tests.integration.spark import OnSpark, choose_stories, comparable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.detections.rule import Rule
    from tests.integration.spark import Stories

HERE = Path(__file__).parent
GAPS = tomllib.loads((HERE / "spark_gaps.toml").read_text(encoding="utf-8"))
EVERY_RULE = {folder.name: read_rule(folder) for folder in find_rules([RULES])}
FILES = ("rule.sql", "count.sql")
# Millions of rows are not the point: no generated code, no parallel shuffles, a light compiler.
SETTINGS = {
    "spark.driver.memory": "2g",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.ui.enabled": "false",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}

pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas")


@pytest.fixture(scope="module")
def on_spark(tmp_path_factory) -> Iterator[OnSpark]:
    pyspark = pytest.importorskip("pyspark.sql", reason="make integration installs it")
    builder = pyspark.SparkSession.builder.master("local[2]")
    warehouse = str(tmp_path_factory.mktemp("warehouse"))
    for name, value in (SETTINGS | {"spark.sql.warehouse.dir": warehouse}).items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield OnSpark(session)
    session.stop()


@pytest.fixture(scope="module")
def stories(tmp_path_factory) -> dict[str, Stories]:
    return choose_stories(list(EVERY_RULE.values()), tmp_path_factory.mktemp("lakes"))


@pytest.mark.parametrize("name", EVERY_RULE)
def test_a_rule_gives_the_same_rows_on_both_engines(on_spark, stories, name):
    """A listed gap must still be one, so that the list cannot outlive its reasons."""
    rule = EVERY_RULE[name]
    if GAPS.get(name, {}).get("explodes"):
        pytest.skip(GAPS[name]["reason"])
    on_spark.show(stories[name].tables(rule))

    faults = [fault for file in FILES if (fault := difference(on_spark, stories[name], rule, file))]

    assert bool(faults) == (name in GAPS), f"{name}: {faults} {GAPS.get(name)}"


def difference(on_spark: OnSpark, stories: Stories, rule: Rule, file: str) -> str:
    """Return how Spark's answer differs from DuckDB's, which is never empty here."""
    expected = stories.duckdb_rows(rule, file)
    assert expected
    try:
        found = on_spark.rows(rule.file(file), rule.sql[file], stories.values(rule))
    except (RuleError, on_spark.error) as error:
        return f"{file}: {str(error).strip().splitlines()[0]}"
    if file == "count.sql":  # its one column needs no name
        expected, found = (
            [dict(enumerate(row.values())) for row in rows] for rows in (expected, found)
        )
    return "" if comparable(expected) == comparable(found) else f"{file}: other rows"


def test_every_gap_names_a_rule_and_a_reason():
    assert set(GAPS) <= set(EVERY_RULE)
    assert all(gap["reason"] for gap in GAPS.values())


# Each of these differs between the engines when it is translated word for word.
IDIOMS = """
    SELECT
        n,
        l[1] AS one, l[7] AS outside, l[-1] AS last, list_extract(l, n) AS at, l[1:2] AS head,
        list_slice(l, 2, n) AS part, list_contains(l, 'z') AS has,
        list_sort(list_distinct(l)) AS different,
        list_concat(l, nothing) AS more, list_append(nothing, 'x') AS appended,
        list_sort(l) AS sorted, list_has_all(l, ['a']) AS all_in, array_length(nothing) AS size,
        flatten([l, nothing]) AS flat, list_filter(l, lambda x: x > 'a') AS some,
        range(1, n) AS counted, list_sum([n, 2]) AS total, epoch(t) AS seconds,
        epoch_us(t) AS micros, CAST(n / 2 AS BIGINT) AS rounded, t + to_seconds(90) AS later,
        t + to_days(1) AS next_day, date_trunc('day', t) AS day,
        regexp_replace(s, '^(.)(.)', '\\2$\\1') AS swapped, regexp_extract(s, 'x') AS none,
        split_part(s, '.', 9) AS no_part, array_to_string(l, ',') AS text,
        concat(s, NULL) AS whole, sum(n) FILTER (WHERE n > 1) OVER () AS filtered
    FROM u
"""
GROUPED = """
    SELECT
        n > 1 AS many, list_sort(list(m)) AS members, list(m) FILTER (WHERE n > 9) AS nobody,
        list(s ORDER BY m DESC, n) AS ordered, list_sort(list(DISTINCT n)) AS numbers,
        arg_max(m, n) AS newest, arg_min(m, n) AS oldest
    FROM u GROUP BY n > 1
"""
SCHEMA = pa.schema(
    {
        "n": pa.int64(),
        "m": pa.string(),
        "s": pa.string(),
        "l": pa.list_(pa.string()),
        "t": pa.timestamp("us", tz="UTC"),
        "nothing": pa.list_(pa.string()),
    }
)
TIMES = (datetime(2026, 3, 2, 1, 2, 3, 456789, UTC), datetime(1969, 12, 31, 23, 59, 59, 5, UTC))
ROWS = [
    {"n": 1, "m": None, "s": "a.b", "l": ["b", None, "a"], "t": TIMES[0]},
    {"n": 2, "m": "y", "s": "cd", "l": [], "t": TIMES[1]},
    {"n": 3, "m": None, "s": "", "l": None, "t": None},
]


@pytest.mark.parametrize("sql", [IDIOMS, GROUPED], ids=["rows", "groups"])
def test_idioms_that_differ_mean_the_same_after_translation(on_spark, sql):
    table = pa.Table.from_pylist(ROWS, schema=SCHEMA)
    on_spark.show({"u": table})
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("u", table)
        expected = con.sql(sql).to_arrow_table().to_pylist()

    assert comparable(on_spark.rows("idioms", sql, {})) == comparable(expected)
