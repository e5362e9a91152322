"""`delegraph config`: what is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.cli.options import with_config
from pipeline.config import show_config

if TYPE_CHECKING:
    from pipeline.config import Config


@click.group()
def command() -> None:
    """Show the effective configuration."""


@command.command()
@with_config
def show(config: Config) -> None:
    """Print the effective configuration as TOML; secrets are masked."""
    click.echo(show_config(config), nl=False)
