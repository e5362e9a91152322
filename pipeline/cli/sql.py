"""`delegraph sql`: one SELECT over the views."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import the_lake, with_config
from pipeline.cli.output import FORMATS, rows_of, write
from pipeline.lake.query import run_select

if TYPE_CHECKING:
    from pipeline.config import Config


@click.command(epilog='Example: delegraph sql --format json "FROM findings WHERE severity >= 4"')
@click.argument("query", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="json is one array of row objects.",
)
@click.option("--limit", type=click.IntRange(1), help="Rows at most.")
@with_config
def command(config: Config, query: str | None, form: str, limit: int | None) -> None:
    """Ask the lake one SELECT; without QUERY it is read from stdin.

    `FROM help()` lists the views and their columns.  Nothing can be written, and
    no file outside the lake can be read.
    """
    if query is None or query == "-":
        query = sys.stdin.read()
    table = run_select(the_lake(config), query, limit=limit)
    write(form, table.column_names, rows_of(table))
