"""`delegraph chains`: build them, show one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from pipeline.chains import build_chains
from pipeline.chains.show import load_chain
from pipeline.cli.options import (
    as_of_option,
    json_option,
    the_lake,
    the_registry,
    with_config,
    with_registry,
)
from pipeline.cli.output import write_json
from pipeline.errors import QueryError
from pipeline.investigate.text import render_path
from pipeline.log import one_line

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.config import Config


@click.group()
def command() -> None:
    """Build and show delegation chains."""


@command.command()
@as_of_option
@click.option("--full", is_flag=True, help="Rebuild all, not only what new events touch.")
@with_registry
def build(config: Config, as_of: datetime, full: bool) -> None:
    """Bring credentials, hops, chains and calls up to date with the events.

    Prints what it did as one JSON object.
    """
    report = build_chains(the_lake(config), the_registry(config), as_of, full=full)
    write_json(report.as_dict())


@command.command()
@click.argument("key")
@json_option
@with_config
def show(config: Config, key: str, as_json: bool) -> None:
    """Show the way from a credential to its root.

    KEY is a credential's key or id, a finding's id or a call's event_uid.
    """
    with the_lake(config).connect(comments=False) as con:
        path = load_chain(con, key)
    if path is None:
        raise QueryError(f"no credential, call or finding is called {one_line(key)!r}")
    if as_json:
        write_json(dataclasses.asdict(path))
    else:
        click.echo(render_path(path))
