"""`delegraph coverage`: how complete the data is, and which sources are missing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import say
from pipeline.cli.options import (
    MOMENT,
    after_option,
    as_of_option,
    finish,
    json_option,
    limit_option,
    the_lake,
    the_registry,
    with_config,
    with_registry,
)
from pipeline.cli.output import ask, coverage, listing, rows_of, statement, write, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pipeline.config import Config
    from pipeline.lake import Lake
    from pipeline.registry import Registry

SHOWN = (
    "tenant_id",
    "source",
    "event_date",
    "events",
    "calls",
    "worst",
    "agent",
    "subject",
    "resource",
    "decision",
    "correlation",
    "linked",
    "complete",
    "broken",
    "lateness_p95_s",
    "lag_s",
    "silent_since",
)
SHOWN_SOURCES = ("state", "tenant_id", "source", "owner", "last_event_time", "lag_s", "since")
_SHARES = {
    "agent": "with_agent",
    "subject": "with_subject",
    "resource": "with_resource",
    "decision": "with_decision",
    "correlation": "with_correlation",
    "linked": "linked",
    "complete": "complete",
    "broken": "broken",
}
MISSING = ("silent", "never_seen")
INCOMPLETE = (*MISSING, "lagging")
_MOST_SOURCES = 5
EXIT_UNREACHABLE, EXIT_PARTIAL = 4, 5


@click.group(invoke_without_command=True)
@click.option("--source", multiple=True, help="Of these sources.")
@click.option("--tenant", multiple=True, help="Of these tenants.")
@click.option("--from", "start", type=MOMENT, metavar="TIME", help="Days from this one on.")
@click.option("--to", "end", type=MOMENT, metavar="TIME", help="Days before this one.")
@as_of_option
@limit_option
@after_option
@json_option
@with_config
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    config: Config,
    as_json: bool,
    limit: int,
    after: int,
    **chosen: Any,
) -> None:
    """List how complete each source was on each day, the worst first.

    `worst` names the piece of context that the smallest share of calls has.
    """
    if ctx.invoked_subcommand:
        return
    lake = the_lake(config)
    values = {
        name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()
    }
    with lake.connect(comments=False) as con:
        found = ask(con, statement("coverage_list"), values | {"limit": limit + 1, "after": after})
    rows = list(rows_of(found))
    following = after + limit if len(rows) > limit else None
    if as_json:
        write_json(listing("coverage", lake, rows[:limit], following))
        return
    write("table", SHOWN, [_short(row) for row in rows[:limit]])
    if following:
        say(f"showing {limit}; there are more: --limit")


@command.command()
@click.option(
    "--require-coverage",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exit 5 when a smaller share of calls is linked to a credential.",
)
@as_of_option
@json_option
@with_registry
def check(
    config: Config, *, require_coverage: float | None, as_of: datetime, as_json: bool
) -> None:
    """Say which sources are silent, lag, were never seen, or are not registered.

    Exits 4 when a source is silent or was never seen.  Sources read from files
    end where their file ends: they are neither silent nor late.
    """
    lake = the_lake(config)
    rows = _sources(lake, the_registry(config), as_of)
    overall = coverage(lake)
    if as_json:
        write_json(listing("sources", None, rows, None) | {"coverage": overall})
    else:
        write("table", SHOWN_SOURCES, rows)
    missing = [row for row in rows if row["state"] in MISSING]
    for row in missing:
        say(_told(row))
    if missing:
        finish(EXIT_UNREACHABLE)
    finish(short_of(overall["linked"], require_coverage))


def _sources(lake: Lake, registry: Registry, as_of: datetime) -> list[dict[str, Any]]:
    with lake.connect(comments=False) as con:
        con.register("reg_sources", registry.tables()["reg_sources"])
        return list(rows_of(ask(con, statement("coverage_check"), {"as_of": as_of})))


def incomplete_sources(lake: Lake, registry: Registry, as_of: datetime) -> list[dict[str, Any]]:
    """Return the sources of which something is missing as of a time, the worst first."""
    return [row for row in _sources(lake, registry, as_of) if row["state"] in INCOMPLETE]


def say_completeness(overall: Mapping[str, Any], incomplete: Sequence[Mapping[str, Any]]) -> None:
    """Say how complete the data is that findings rest on, and which sources it lacks."""
    if overall["calls"]:
        linked, complete = (_percent(overall[name]) for name in ("linked", "complete"))
        say(f"of all calls {linked} are linked to a credential, {complete} to a complete chain")
    for row in incomplete[:_MOST_SOURCES]:
        say(_told(row))
    if len(incomplete) > _MOST_SOURCES:
        more = len(incomplete) - _MOST_SOURCES
        say(f"{more} more sources are incomplete: delegraph coverage check")


def short_of(linked: float | None, wanted: float | None) -> int:
    """Return the exit code where fewer calls are linked to a credential than wanted, else 0."""
    if linked is None or wanted is None or linked >= wanted:
        return 0
    say(f"{linked:.1%} of calls are linked to a credential, {wanted:.1%} are asked")
    return EXIT_PARTIAL


def _told(row: Mapping[str, Any]) -> str:
    name = f"{row['source']} of {row['tenant_id'] or 'any tenant'}"
    match row["state"]:
        case "never_seen":
            return f"{name} is registered, but was never seen"
        case "silent":
            return f"{name} is silent since {row['since']}"
        case _:
            return f"{name} lags: complete only up to {row['watermark']}"


def _short(row: dict[str, Any]) -> dict[str, Any]:
    shares = {name: _percent(row[column]) for name, column in _SHARES.items()}
    late, lag = row["lateness_p95_s"], row["lag_s"]
    return (
        row
        | shares
        | {"lateness_p95_s": late and round(late, 1), "lag_s": lag and round(lag)}
        | {"worst": row["worst"] and f"{row['worst']} {_percent(row['worst_share'])}"}
    )


def _percent(share: float | None) -> str | None:
    """Return a share in per cent; what is not all is never rounded up to all."""
    return None if share is None else f"{math.floor(share * 1000) / 10}%"
