"""`delegraph connect`: the init script for other DuckDB clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.cli.options import json_option, the_lake, with_config
from pipeline.cli.output import write_json

if TYPE_CHECKING:
    from pipeline.config import Config


@click.command(epilog='Example: duckdb -init "$(delegraph connect)"')
@json_option
@with_config
def command(config: Config, as_json: bool) -> None:
    """Print the path of an SQL script that opens the lake in any DuckDB client.

    It needs no extension, works in DuckDB 1.4, 1.5 and 2.0, and shows what is
    published whenever it is run.
    """
    script = the_lake(config).connect_script()
    if as_json:
        write_json({"init": str(script), "lake": config.lake.path})
    else:
        click.echo(str(script))
