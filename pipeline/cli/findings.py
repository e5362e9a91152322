"""`delegraph findings`: list them, show one, decide about one, see what is suppressed."""

from __future__ import annotations

import getpass
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import say
from pipeline.cli.dossier import SHORT_ID, gather, render, rule_of
from pipeline.cli.options import (
    MOMENT,
    WORDS,
    ManyValues,
    after_option,
    as_of_option,
    json_option,
    limit_option,
    the_lake,
    the_registry,
    with_config,
    with_registry,
)
from pipeline.cli.output import ask, listing, plain, rows_of, write, write_json
from pipeline.detections.decide import Decision, decide
from pipeline.detections.rule import nearest, read_rules
from pipeline.detections.suppress import suppression_report
from pipeline.errors import QueryError
from pipeline.log import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import duckdb

    from pipeline.config import Config

UNOWNED = "unowned"
STATUSES = ("open", "suppressed", "accepted", "resolved", "refuted", "all")
SHOWN = (
    "severity",
    "status",
    "rule_code",
    "last_seen",
    "route_owner",
    "title",
    "entity",
    "finding_id",
)
SHOWN_SUPPRESSIONS = ("id", "rule", "owner", "expires_at", "hidden_now", "last_hid_at", "problems")
_OWNERS_NAMED = 8


@click.group()
def command() -> None:
    """List, show, accept and close findings."""


@command.command(cls=ManyValues)
@click.option("--severity", multiple=True, type=click.IntRange(1, 5), help="These severities.")
@click.option(
    "--status", multiple=True, type=click.Choice(STATUSES), help="These; open unless given."
)
@click.option("--rule", multiple=True, help="Of these rule ids or codes.")
@click.option("--tenant", multiple=True, help="Of these tenants.")
@click.option("--owner", multiple=True, help="To be told to these owners.")
@click.option("--unowned", is_flag=True, help="The queue of those that nobody owns.")
@click.option("--from", "start", type=MOMENT, metavar="TIME", help="Last seen then or later.")
@click.option("--to", "end", type=MOMENT, metavar="TIME", help="Last seen before this time.")
@limit_option
@after_option
@json_option
@with_config
def ls(config: Config, as_json: bool, limit: int, after: int, unowned: bool, **chosen: Any) -> None:
    """List findings, the worst and newest first, and how many each owner has."""
    lake = the_lake(config)
    values = {
        name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()
    }
    values["status"] = values["status"] or ["open"]
    values["owner"] += [UNOWNED] if unowned else []
    with lake.connect(comments=False) as con:
        found = ask(con, _LIST, values | {"limit": limit + 1, "after": after})
        owners = {row["owner"]: row["findings"] for row in rows_of(ask(con, _OWNERS, values))}
    rows = list(rows_of(found))
    following = after + limit if len(rows) > limit else None
    if as_json:
        write_json(listing("findings", lake, rows[:limit], following) | {"owners": owners})
        return
    write("table", SHOWN, [short(row) for row in rows[:limit]])
    say(_by_owner(owners))
    if not rows:
        _say_unknown(config, chosen["rule"])
    if following:
        say(f"showing {limit}; there are more: --limit")


@command.command()
@click.argument("finding_id")
@json_option
@with_config
def show(config: Config, finding_id: str, as_json: bool) -> None:
    """Show one finding: verdict, chain, why, what to do, evidence, coverage, history.

    The beginning of the id is enough.
    """
    with the_lake(config).connect(comments=False) as con:
        finding = one_finding(con, finding_id)
        told = gather(con, finding, rule_of(finding["rule_id"], config.detect.rules))
    if as_json:
        write_json(told)
    else:
        click.echo(render(told))


_reason_option = click.option(
    "--reason", type=WORDS, required=True, help="Why; it stands in the history."
)
_by_option = click.option(
    "--by", type=WORDS, metavar="NAME", help="Who decides; else the user of this session."
)


@command.command()
@click.argument("finding_id")
@click.option("--until", type=MOMENT, required=True, metavar="DATE", help="The risk is borne till.")
@_reason_option
@_by_option
@as_of_option
@with_config
def accept(
    *,
    config: Config,
    finding_id: str,
    until: datetime,
    reason: str,
    by: str | None,
    as_of: datetime,
) -> None:
    """Accept a finding until a date; it alerts nobody until then.

    The first detection after that date opens it again if it is still true, an
    earlier one if it has become more severe.
    """
    after = _decide(config, finding_id, _decision("accepted", by, reason, until), as_of)
    say(f"accepted {after['finding_id']} until {until.isoformat()}")


@command.command()
@click.argument("finding_id")
@_reason_option
@_by_option
@as_of_option
@with_config
def close(config: Config, finding_id: str, reason: str, by: str | None, as_of: datetime) -> None:
    """Close a finding by hand; it opens again when its rule finds newer evidence."""
    after = _decide(config, finding_id, _decision("closed", by, reason), as_of)
    say(f"closed {after['finding_id']}")


@command.command()
@as_of_option
@json_option
@with_registry
def suppressions(config: Config, as_of: datetime, as_json: bool) -> None:
    """List the suppressions of the registry: what each hides, until when, and whether it should."""
    lake, registry = the_lake(config), the_registry(config)
    with lake.connect(comments=False) as con:
        report = suppression_report(con, registry.tables()["reg_suppressions"], as_of)
    rows: list[dict[str, Any]] = plain(report)
    if as_json:
        write_json(listing("suppressions", lake, rows, None))
        return
    for row in rows:
        row["problems"] = ", ".join(row["problems"])
    empty = dict.fromkeys(SHOWN_SUPPRESSIONS)
    write("table", SHOWN_SUPPRESSIONS, [empty | row for row in rows])


def _decision(change: Any, by: str | None, reason: str, until: datetime | None = None) -> Decision:
    return Decision(change, by or one_line(_this_user()), reason, until)


def _this_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise click.UsageError("who decides? this session has no user: --by NAME") from None


def _decide(config: Config, start: str, decision: Decision, now: datetime) -> dict[str, Any]:
    lake = the_lake(config)
    with lake.connect(comments=False) as con:
        finding_id = one_finding(con, start)["finding_id"]
    return decide(lake, finding_id, decision, now.astimezone(UTC))


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


def _say_unknown(config: Config, names: Iterable[str]) -> None:
    """Say which names no rule bears: that nothing was found of them means nothing."""
    rules, _ = read_rules(map(Path, config.detect.rules)) if names else ([], [])
    known = {name for rule in rules for name in (rule.id, rule.code)}
    for name in names:
        if name not in known:
            say(f'warning: there is no rule "{one_line(name)}"{nearest(name, known)}')


def _by_owner(owners: Mapping[str, int]) -> str:
    """Return one line: how many findings each owner has, the longest queues first."""
    counts = Counter(owners)
    named = [f"{one_line(name)} {count}" for name, count in counts.most_common(_OWNERS_NAMED)]
    more = f", {len(counts) - _OWNERS_NAMED} more owners" if len(counts) > _OWNERS_NAMED else ""
    total = sum(counts.values())
    noun = "finding" if total == 1 else "findings"
    return f"{total} {noun}" + (f": {', '.join(named)}{more}" if named else "")


_CHOSEN = """
FROM findings
WHERE ('all' IN (SELECT unnest($status::VARCHAR[])) OR list_contains($status::VARCHAR[], status))
  AND (len($severity::INTEGER[]) = 0 OR list_contains($severity::INTEGER[], severity))
  AND (len($rule::VARCHAR[]) = 0 OR list_contains($rule::VARCHAR[], rule_id)
       OR list_contains($rule::VARCHAR[], rule_code))
  AND (len($tenant::VARCHAR[]) = 0 OR list_contains($tenant::VARCHAR[], tenant_id))
  AND (len($owner::VARCHAR[]) = 0
       OR list_contains($owner::VARCHAR[], coalesce(route_owner, 'unowned')))
  AND ($start::TIMESTAMPTZ IS NULL OR last_seen >= $start::TIMESTAMPTZ)
  AND ($end::TIMESTAMPTZ IS NULL OR last_seen < $end::TIMESTAMPTZ)
"""

_LIST = f"""
SELECT * {_CHOSEN}
ORDER BY severity DESC, last_seen DESC, finding_id
LIMIT $limit OFFSET $after
"""

_OWNERS = f"""
SELECT coalesce(route_owner, 'unowned') AS owner, count(*) AS findings {_CHOSEN}
GROUP BY ALL
ORDER BY findings DESC, owner
"""

_ONE = """
SELECT * FROM findings WHERE starts_with(finding_id, $id) ORDER BY finding_id LIMIT 2
"""
