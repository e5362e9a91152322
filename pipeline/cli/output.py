"""Rows to stdout: tables for people, JSON for programs.

Times are ISO 8601 in UTC with `Z`, lists are arrays.  Event text is hostile: what
people see has no control or bidirectional characters.
"""

from __future__ import annotations

import base64
import csv
import json
import math
import os
import re
import shutil
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import QueryError
from pipeline.log import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import duckdb
    import pyarrow as pa

    from pipeline.lake import Lake

FORMATS = ("table", "json", "jsonl", "csv", "markdown")
MAX_CELL = 60
# What json leaves as it is: delete, C1 controls, marks of direction, invisible characters.
_STEERING = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)

Row = dict[str, Any]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value)
    return str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: Decimal) -> int | float:
    # DuckDB's sums of BIGINT are HUGEINT, which Arrow carries as a decimal of scale 0.
    return int(value) if value == value.to_integral_value() else float(value)


def utc(value: datetime) -> str:
    """Return a time as ISO 8601 with `Z`; a time without a zone is UTC here."""
    moment = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return moment.isoformat().replace("+00:00", "Z")


# A datetime is a date too: the order matters.
_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (float, _finite),
    (datetime, utc),
    (date, date.isoformat),
    (time, time.isoformat),
    (timedelta, timedelta.total_seconds),
    (Decimal, _number),
    (bytes, lambda value: base64.b64encode(value).decode()),
)


def rows_of(table: pa.Table) -> Iterator[Row]:
    """Return the rows of a table as JSON-ready values; equal column names get a number.

    Raises:
        QueryError: a time that no calendar of ours has.
    """
    names = _distinct(table.column_names)
    table = table.rename_columns(names)
    for batch in table.to_batches(max_chunksize=10_000):
        try:
            rows = batch.to_pylist(maps_as_pydicts="lossy")
        except (ValueError, OverflowError):
            raise QueryError("a time outside the years 1 to 9999; cast it to VARCHAR") from None
        for row in rows:
            yield {name: plain(value) for name, value in row.items()}


def _distinct(names: Sequence[str]) -> list[str]:
    taken: set[str] = set()
    distinct = []
    for name in names:
        candidate, number = name, 0
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        distinct.append(candidate)
    return distinct


def write(form: str, names: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows to stdout in one of `FORMATS`."""
    _WRITERS[form](_distinct(names), rows)


def write_json(value: Any) -> None:
    """Write one JSON value to stdout."""
    click.echo(_dump(plain(value)))


def _dump(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # The same JSON, but a terminal that shows it is not steered by it.
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _json(_: Sequence[str], rows: Iterable[Row]) -> None:
    """Write exactly one array, whatever the number of rows."""
    first = True
    for row in rows:
        click.echo(("[" if first else ",\n ") + _dump(row), nl=False)
        first = False
    click.echo("[]" if first else "]")


def _jsonl(_: Sequence[str], rows: Iterable[Row]) -> None:
    for row in rows:
        click.echo(_dump(row))


def _csv(names: Sequence[str], rows: Iterable[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_text(row[name]) for name in names])


def _markdown(names: Sequence[str], rows: Iterable[Row]) -> None:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"

    click.echo(line(names))
    click.echo(line("---" for _ in names))
    for row in rows:
        click.echo(line(_text(row[name]) for name in names))


def _table(names: Sequence[str], rows: Iterable[Row]) -> None:
    # What is piped is complete; a terminal shows what fits.
    most = MAX_CELL if sys.stdout.isatty() else None
    cells = [[_short(one_line(_text(row[name])), most) for name in names] for row in rows]
    widths = [
        max(map(len, chain([name], (line[place] for line in cells))))
        for place, name in enumerate(names)
    ]
    width = shutil.get_terminal_size((200, 24)).columns if sys.stdout.isatty() else None
    for number, line in enumerate([list(names), *cells]):
        text = "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True))
        text = text.rstrip()[:width]
        click.echo(click.style(text, bold=True) if number == 0 and is_colourful() else text)


def is_colourful() -> bool:
    """Return whether stdout wants colour."""
    quiet = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not quiet


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _dump(value)


def _short(text: str, most: int | None) -> str:
    return text if most is None or len(text) <= most else text[: most - 1] + "…"


_WRITERS: Mapping[str, Callable[[Sequence[str], Iterable[Row]], None]] = {
    "table": _table,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "markdown": _markdown,
}


def listing(schema: str, lake: Lake | None, rows: Sequence[Row], following: int | None) -> Row:
    """Return the envelope that every `--json` listing has."""
    return {
        "schema": f"delegraph.{schema}/1",
        "generated_at": utc(datetime.now(UTC)),
        "coverage": coverage(lake) if lake else None,
        "items": list(rows),
        "next": following,
    }


def ask(con: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, Any]) -> pa.Table:
    """Return what a query of our own finds, its values bound."""
    found: pa.Table = con.sql(query, params=dict(values) or None).to_arrow_table()
    return found


def statement(name: str) -> str:
    """Return a query of the command line, from the file of that name beside it."""
    return (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")


def coverage(lake: Lake) -> Row:
    """Return how complete the data behind a listing is, over all sources and days."""
    with lake.connect(comments=False) as con:
        return next(rows_of(ask(con, statement("coverage_total"), {})))
