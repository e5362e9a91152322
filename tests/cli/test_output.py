import csv
import io
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from pipeline.cli.output import plain, rows_of, write
from pipeline.errors import QueryError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 1, 1, 10, tzinfo=timezone(timedelta(hours=2))), "2026-01-01T08:00:00Z"),
        (datetime(2026, 1, 1, 10, 0, 0, 5), "2026-01-01T10:00:00.000005Z"),  # noqa: DTZ001
        (date(2026, 1, 1), "2026-01-01"),
        (Decimal(12), 12),
        (Decimal("1.5"), 1.5),
        (float("nan"), None),
        (b"\x00\xff", "AP8="),
        (timedelta(seconds=1.5), 1.5),
        ({"a": [Decimal(1), None]}, {"a": [1, None]}),
    ],
)
def test_every_value_has_a_json_form(value, expected):
    assert plain(value) == expected


def arrow(query):
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return con.sql(query).to_arrow_table()


def test_lists_maps_and_wide_sums_of_duckdb_become_json():
    table = arrow("SELECT [1, 2] AS l, MAP {'k': 'v'} AS m, sum(1) AS s, {'a': 1} AS t")

    assert list(rows_of(table)) == [{"l": [1, 2], "m": {"k": "v"}, "s": 1, "t": {"a": 1}}]


def test_equal_column_names_are_told_apart():
    table = pa.table([[1], [2], [3]], names=["a", "a", "a_1"])

    assert list(rows_of(table)) == [{"a": 1, "a_1": 2, "a_1_1": 3}]


def test_a_time_beyond_the_calendar_is_an_error_that_says_what_to_do():
    table = pa.table({"t": pa.array([2**62], pa.timestamp("us", "UTC"))})

    with pytest.raises(QueryError, match="cast it to VARCHAR"):
        list(rows_of(table))


HOSTILE = 'a|b\x1b[31m\u202e\n=1+1,"q"'


@pytest.mark.parametrize("rows", [[], [{"a": HOSTILE, "b": [1]}], [{"a": None, "b": []}] * 3])
def test_json_is_one_array_and_jsonl_one_object_a_line(capsys, rows):
    write("json", ["a", "b"], rows)
    array = json.loads(capsys.readouterr().out)
    write("jsonl", ["a", "b"], rows)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert array == rows
    assert lines == rows


def test_csv_can_be_read_back(capsys):
    write("csv", ["a", "b"], [{"a": HOSTILE, "b": [1]}])

    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["a", "b"], [HOSTILE, "[1]"]]


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_what_people_see_has_no_escapes_and_one_line_a_row(capsys, form):
    write(form, ["a", "b"], [{"a": HOSTILE, "b": datetime.now(UTC).isoformat()}])

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (2 if form == "table" else 3)
    assert all(char.isprintable() for line in lines for char in line)


def test_markdown_keeps_its_columns(capsys):
    write("markdown", ["a"], [{"a": "x|y"}])

    assert capsys.readouterr().out.splitlines()[-1] == "| x\\|y |"


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_is_the_same_text_and_steers_no_terminal(capsys, form):
    hostile = HOSTILE + "\x9b2J\x7f\u2066\u200b\u2028\ufeff\u00e9\U0001f600"

    write(form, ["t"], [{"t": hostile}])

    out = capsys.readouterr().out
    (row,) = json.loads(out) if form == "json" else [json.loads(out)]
    assert row == {"t": hostile}
    assert all(char.isprintable() for char in out.rstrip("\n"))
    assert "\u00e9\U0001f600" in out
