"""`delegraph registry`: check the policy files, show one name, compare two folders."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import say
from pipeline.cli.options import (
    MOMENT,
    as_of_option,
    finish,
    json_option,
    the_lake,
    the_registry,
    with_config,
    with_registry,
)
from pipeline.cli.output import listing, write, write_json
from pipeline.cli.registry_text import change_lines, item_lines
from pipeline.config import RegistryConfig
from pipeline.detections.policy import read_policy, record_policy
from pipeline.detections.rule import nearest, read_rules
from pipeline.detections.suppress import suppressible
from pipeline.errors import ConfigError, LakeError, RegistryErrors
from pipeline.log import one_line
from pipeline.registry import Registry, load_registry
from pipeline.registry.check import Warned, find_warnings
from pipeline.registry.columns import ALWAYS
from pipeline.registry.diff import diff as compare
from pipeline.registry.schema import file_schema
from pipeline.registry.shapes import FILES
from pipeline.registry.show import show as look_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.config import Config
    from pipeline.registry.read import Entry

EXIT_FAULTY = 2


@click.group()
def command() -> None:
    """Check, show and compare policy registries."""


@command.command()
@click.argument("folder", required=False)
@as_of_option
@json_option
@with_config
def check(config: Config, folder: str | None, as_of: datetime, as_json: bool) -> None:
    """Load FOLDER, or the configured one; every fault is named with file and line.

    Faults end with exit code 2.  Warnings do not: what has run out by now, owners who
    lead to nobody, sign-offs that no longer fit.
    """
    if folder:
        config = dataclasses.replace(config, registry=RegistryConfig(folder))
    try:
        registry = the_registry(config)
    except RegistryErrors as error:
        if not as_json:
            raise
        faults = [{"level": "error", **_fault(one)} for one in error.errors]
        write_json(listing("registry_check", None, faults, None) | {"policy_version": None})
        finish(EXIT_FAULTY)
        return
    if not registry.sections:
        say("warning: no registry is named, or it is empty; nothing is known of any agent")
    warned = find_warnings(registry.sections, as_of) + _idle_suppressions(config, registry)
    rows = {name: table.num_rows for name, table in registry.tables().items()}
    if as_json:
        items = [{"level": "warning", **_fault(one)} for one in warned]
        more = {"policy_version": registry.policy_version, "rows": rows}
        write_json(listing("registry_check", None, items, None) | more)
        return
    for one in warned:
        click.echo(one_line(str(one)))
    click.echo(
        f"policy version {registry.policy_version}: {rows['reg_identities']} identities in"
        f" {rows['reg_classes']} classes, no faults, {len(warned)} warning(s)"
    )


@command.command()
@click.argument("name", metavar="ID")
@as_of_option
@json_option
@with_registry
def show(config: Config, name: str, as_of: datetime, as_json: bool) -> None:
    """Show what bears this name: an identity, alias, class, record, person, suppression, ...

    Limits with who sets them, owners and whether they answer, sign-offs and the hash to
    sign, exceptions with the days left, and what held before; where there is a lake,
    with the versions that it has recorded.
    """
    registry = the_registry(config)
    try:
        registry = read_policy(the_lake(config), registry)
    except LakeError as error:
        if "no lake there" not in str(error):
            raise
    items = look_up(registry, name, as_of)
    if as_json:
        more = {"policy_version": registry.policy_version}
        write_json(listing("registry_show", None, items, None) | more)
        return
    for item in items:
        for line in item_lines(item):
            click.echo(line)


@command.command()
@click.argument("old", type=click.Path(exists=True, file_okay=False))
@click.argument("new", type=click.Path(exists=True, file_okay=False))
@json_option
def diff(old: str, new: str, as_json: bool) -> None:
    """Compare two folders; what widens authority comes first."""
    before, after = load_registry(old), load_registry(new)
    rows = compare(before, after)
    if as_json:
        more = {"old": before.policy_version, "new": after.policy_version}
        write_json(listing("registry_diff", None, rows, None) | more)
        return
    for line in change_lines(rows):
        click.echo(line)


@command.command()
@click.argument("file", type=click.Choice(sorted(FILES)), required=False)
def schema(file: str | None) -> None:
    """Print the JSON Schema of one FILE of the registry; without FILE, list the files."""
    if file is None:
        write(
            "table", ("file", "sections"), [{"file": f, "sections": list(FILES[f])} for f in FILES]
        )
        return
    click.echo(json.dumps(file_schema(file), indent=2))


@command.command()
@click.option("--since", type=MOMENT, metavar="TIME", help="In force from then on [always].")
@with_registry
def record(config: Config, since: datetime | None) -> None:
    """State that the registry has been in force since TIME, whatever the lake has recorded.

    Without this a version holds from the run that first used it, so that a change of
    today excuses or accuses nothing of yesterday.  For a correction of one agent write
    its `history` instead; this is for the whole folder, such as while setting up.
    """
    registry = the_registry(config)
    if registry.policy_version == "none":
        raise ConfigError("there is no registry to record: name a folder with --registry")
    record_policy(the_lake(config), registry, datetime.now(UTC), since=since or ALWAYS[0])
    say(f"policy version {registry.policy_version} holds since {since or 'always'}")


def _fault(one: Any) -> dict[str, Any]:
    return {"file": one.file, "line": one.line, "message": one.message}


def _names(suppressions: Iterable[Entry]) -> set[str]:
    return {entry.values["rule"] for entry in suppressions}


def _idle_suppressions(config: Config, registry: Registry) -> list[Warned]:
    """Return a warning for each suppression that can hide nothing: no such rule or column."""
    suppressions = registry.sections.get("suppressions", [])
    if not suppressions:
        return []
    rules, _ = read_rules([Path(folder) for folder in config.detect.rules])
    known = {name: rule for rule in rules for name in (rule.id, rule.code)}
    named = {known[name].id: known[name] for name in known if name in _names(suppressions)}
    columns = {rule_id: suppressible(rule) for rule_id, rule in named.items()}
    found = []
    for entry in suppressions:
        name = entry.values["rule"]
        rule = known.get(name)
        if rule is None:
            message = f'there is no rule "{name}"{nearest(name, known)}'
            found.append(Warned(entry.file, entry.line_of("rule"), message))
            continue
        for column in sorted(set(entry.values["predicate"]) - columns[rule.id]):
            hint = nearest(column, columns[rule.id])
            message = f'no finding of {name} has a column "{column}"{hint}'
            found.append(Warned(entry.file, entry.line_of("predicate"), message))
    return found
