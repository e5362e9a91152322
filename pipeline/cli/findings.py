"""`delegraph findings`: list them, show one, close one."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa

from pipeline.chains.show import load_chain
from pipeline.cli import say
from pipeline.cli.options import (
    MOMENT,
    ManyValues,
    after_option,
    json_option,
    limit_option,
    the_lake,
    with_config,
)
from pipeline.cli.output import ask, listing, rows_of, utc, write, write_json
from pipeline.errors import QueryError
from pipeline.investigate.text import render_path
from pipeline.lake.tables import tables
from pipeline.log import one_line

if TYPE_CHECKING:
    import duckdb

    from pipeline.config import Config
    from pipeline.lake import Lake

SHORT_ID = 12
SHOWN = ("severity", "status", "rule_code", "last_seen", "title", "entity", "finding_id")


@click.group()
def command() -> None:
    """List, show and close findings."""


@command.command(cls=ManyValues)
@click.option("--severity", multiple=True, type=click.IntRange(1, 5), help="These severities.")
@click.option("--status", multiple=True, help="These; open unless given, `all` for all.")
@click.option("--rule", multiple=True, help="Of these rule ids or codes.")
@click.option("--tenant", multiple=True, help="Of these tenants.")
@click.option("--from", "start", type=MOMENT, metavar="TIME", help="Last seen then or later.")
@click.option("--to", "end", type=MOMENT, metavar="TIME", help="Last seen before this time.")
@limit_option
@after_option
@json_option
@with_config
def ls(config: Config, as_json: bool, limit: int, after: int, **chosen: Any) -> None:
    """List findings, the worst and newest first."""
    lake = the_lake(config)
    values = {
        name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()
    }
    values["status"] = values["status"] or ["open"]
    with lake.connect(comments=False) as con:
        found = ask(con, _LIST, values | {"limit": limit + 1, "after": after})
    rows = list(rows_of(found))
    following = after + limit if len(rows) > limit else None
    if as_json:
        write_json(listing("findings", lake, rows[:limit], following))
        return
    write("table", SHOWN, [short(row) for row in rows[:limit]])
    if following:
        say(f"showing {limit}; there are more: --limit")


@command.command()
@click.argument("finding_id")
@json_option
@with_config
def show(config: Config, finding_id: str, as_json: bool) -> None:
    """Show one finding with its chain; the beginning of the id is enough."""
    with the_lake(config).connect(comments=False) as con:
        finding = one_finding(con, finding_id)
        history = list(rows_of(ask(con, _HISTORY, {"id": finding["finding_id"]})))
        key = finding["credential_key"]
        path = load_chain(con, key) if key else None
    if as_json:
        write_json(finding | {"history": history})
        return
    for name, value in finding.items():
        if value not in (None, [], ""):
            click.echo(f"{name:15} {one_line(_shown(value))}")
    for change in history:
        told = one_line(change["reason"] or "")
        click.echo(f"{'history':15} {change['changed_at']} {change['change']} {told}")
    if path is not None:
        click.echo("\n" + render_path(path))


@command.command()
@click.argument("finding_id")
@click.option("--reason", required=True, help="Why; it stands in the history.")
@with_config
def close(config: Config, finding_id: str, reason: str) -> None:
    """Close an open finding by hand; it opens again when its rule finds it anew."""
    lake = the_lake(config)
    with lake.connect(comments=False) as con:
        full_id = one_finding(con, finding_id)["finding_id"]
        finding = ask(con, _ONE, {"id": full_id}).to_pylist()[0]
    if finding["status"] != "open":
        raise QueryError(f"finding {full_id} is {finding['status']}, not open")
    close_finding(lake, finding, one_line(reason), datetime.now(UTC))
    say(f"closed {full_id}")


def close_finding(lake: Lake, finding: dict[str, Any], reason: str, now: datetime) -> None:
    """Set a finding's status to resolved and record who was told why."""
    closed = finding | {"status": "resolved", "status_reason": reason, "updated_at": now}
    change = f"{finding['finding_id']}\x1fclosed\x1f{utc(now)}"
    history = {
        name: closed[name] for name in tables()["finding_history"].schema.names if name in closed
    } | {
        "change_id": hashlib.sha256(change.encode()).hexdigest(),
        "change": "closed",
        "reason": reason,
        "changed_at": now,
    }
    # As in detection: after a crash between the two the change is worked out again.
    lake.append_rows(
        "finding_history",
        pa.Table.from_pylist([history], schema=tables()["finding_history"].schema),
    )
    lake.merge("findings", pa.Table.from_pylist([closed], schema=tables()["findings"].schema))


def one_finding(con: duckdb.DuckDBPyConnection, start: str) -> dict[str, Any]:
    """Return the finding whose id begins so.

    Raises:
        QueryError: none does, or several do.
    """
    rows = list(rows_of(ask(con, _ONE, {"id": start})))
    if len(rows) != 1:
        few = "no finding's id begins" if not rows else "several findings' ids begin"
        raise QueryError(f"{few} with {start!r}; see: delegraph findings ls")
    return rows[0]


def short(finding: dict[str, Any]) -> dict[str, Any]:
    """Return a finding as lists show it: the beginning of an id is enough to name it."""
    return finding | {"finding_id": finding["finding_id"][:SHORT_ID]}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        more = f" and {len(value) - 5} more" if len(value) > 5 else ""  # noqa: PLR2004 - a line's worth
        return ", ".join(map(str, value[:5])) + more
    return str(value)


_LIST = """
SELECT * FROM findings
WHERE ('all' IN (SELECT unnest($status::VARCHAR[])) OR list_contains($status::VARCHAR[], status))
  AND (len($severity::INTEGER[]) = 0 OR list_contains($severity::INTEGER[], severity))
  AND (len($rule::VARCHAR[]) = 0 OR list_contains($rule::VARCHAR[], rule_id)
       OR list_contains($rule::VARCHAR[], rule_code))
  AND (len($tenant::VARCHAR[]) = 0 OR list_contains($tenant::VARCHAR[], tenant_id))
  AND ($start::TIMESTAMPTZ IS NULL OR last_seen >= $start::TIMESTAMPTZ)
  AND ($end::TIMESTAMPTZ IS NULL OR last_seen < $end::TIMESTAMPTZ)
ORDER BY severity DESC, last_seen DESC, finding_id
LIMIT $limit OFFSET $after
"""

_ONE = """
SELECT * FROM findings WHERE starts_with(finding_id, $id) ORDER BY finding_id LIMIT 2
"""

_HISTORY = """
SELECT changed_at, change, reason, severity, status FROM finding_history
WHERE finding_id = $id
ORDER BY changed_at, change_id
"""
