"""`delegraph registry`: check the policy files."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import the_registry, with_config
from pipeline.cli.output import write_json
from pipeline.config import RegistryConfig

if TYPE_CHECKING:
    from pipeline.config import Config


@click.group()
def command() -> None:
    """Check the policy registry."""


@command.command()
@click.argument("folder", required=False)
@with_config
def check(config: Config, folder: str | None) -> None:
    """Load FOLDER, or the configured one; every fault is named with file and line."""
    if folder:
        config = dataclasses.replace(config, registry=RegistryConfig(folder))
    registry = the_registry(config)
    rows = {name: table.num_rows for name, table in registry.tables().items()}
    write_json({"policy_version": registry.policy_version, "rows": rows})
