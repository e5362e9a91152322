"""`delegraph rules impact`: what a changed rule would do to the history of a lake."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import say
from pipeline.cli.detect import overridden
from pipeline.cli.options import (
    MOMENT,
    as_of_option,
    json_option,
    the_lake,
    the_registry,
    with_registry,
)
from pipeline.cli.output import listing, plain, write, write_json
from pipeline.detections.check import check_rule
from pipeline.detections.impact import NO_DATE, Impact, Trial, differing, find_impact, is_stored
from pipeline.detections.ledger import Window
from pipeline.detections.rule import RULES, read_rule
from pipeline.errors import RuleErrors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pipeline.config import Config
    from pipeline.detections.rule import Rule

_MOST_SHOWN = 50
SHOWN = ("change", "severity", "owner", "entity", "title")
ALERTS = ("day", "owner", "before", "after")
EXPECTED = ("owner", "days", "before_per_day", "after_per_day")
_TOLD = (
    "finding_id",
    "tenant_id",
    "identity",
    "severity",
    "status",
    "title",
    "entity",
    "route_owner",
    "first_seen",
    "last_seen",
    "event_uids",
)

Row = dict[str, Any]

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", metavar="RULE_DIR", type=_folder)
@click.option("--from", "start", type=MOMENT, metavar="TIME", help="Last seen then or later.")
@click.option("--to", "end", type=MOMENT, metavar="TIME", help="Last seen before this time.")
@click.option("--baseline", type=_folder, metavar="DIR", help="Rule folder to hold it against.")
@as_of_option
@json_option
@with_registry
def impact(
    *,
    config: Config,
    folder: Path,
    start: datetime | None,
    end: datetime | None,
    baseline: Path | None,
    as_of: datetime,
    as_json: bool,
) -> None:
    """Run the changed rule in RULE_DIR over the history and print what it would change.

    Writes nothing.  Without --baseline it is held against the stored findings of the
    same rule id, or, where that rule never ran here, against the one that is shipped.
    """
    lake, rule = the_lake(config), _checked(folder)
    against, other = _baseline(lake, rule, baseline)
    # As it would run here: with the values of this configuration.
    rule = overridden(config, [rule], config.detect.rules)[0]
    other = other and overridden(config, [other], config.detect.rules)[0]
    trial = Trial(rule, Window(start, end), as_of, other)
    least = config.alerts.min_severity
    found = find_impact(lake, the_registry(config), trial, min_severity=least)
    if as_json:
        counted = {"rule_id": rule.id, "rule_version": rule.version, "compared_with": against}
        more = counted | _counts(found, trial.window)
        write_json(listing("impact", lake, _items(found), None) | more)
        return
    rows = _rows(found)
    write("table", SHOWN, rows[:_MOST_SHOWN])
    if len(rows) > _MOST_SHOWN:
        say(f"showing {_MOST_SHOWN} of {len(rows)}; all of them: --json")
    for names, alerts in ((ALERTS, found.alerts), (EXPECTED, _per_owner(found, trial.window))):
        click.echo("")
        write("table", names, alerts)
    say(_summary(found, against, least))


def _checked(folder: Path) -> Rule:
    rule = read_rule(folder.resolve())
    faults = check_rule(rule)
    if faults:
        raise RuleErrors(faults)
    return rule


def _baseline(lake: Any, rule: Rule, folder: Path | None) -> tuple[str, Rule | None]:
    """Return what the rule is held against, in words and as a rule; None is what is stored."""
    if folder:
        return str(folder), _checked(folder)
    if is_stored(lake, rule.id):
        return "stored findings", None
    shipped = RULES / rule.id
    if shipped.is_dir() and shipped.resolve() != rule.folder:
        return "the shipped rule", read_rule(shipped)
    return "nothing: the rule has never run here", None


def _items(found: Impact) -> list[dict[str, Any]]:
    told = [{"change": "new", "before": None, "after": _told(row)} for row in found.new]
    told += [{"change": "gone", "before": _told(row), "after": None} for row in found.gone]
    told += [
        {"change": "changed", "before": _told(was), "after": _told(row)}
        for was, row in found.changed
    ]
    return told


def _told(row: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = plain({name: row[name] for name in _TOLD})
    return told


def _counts(found: Impact, window: Window) -> dict[str, Any]:
    return {
        "new": len(found.new),
        "gone": len(found.gone),
        "changed": len(found.changed),
        "same": found.same,
        "alerts": found.alerts,
        "alerts_per_owner": _per_owner(found, window),
    }


def _per_owner(found: Impact, window: Window) -> list[dict[str, Any]]:
    """Return the alerts of each owner, in all and per day of the window that was looked at."""
    days = _days(found, window)
    before, after = Counter[str](), Counter[str]()
    for row in found.alerts:
        before[row["owner"]] += row["before"]
        after[row["owner"]] += row["after"]
    return [
        {
            "owner": owner,
            "days": days,
            "before": before[owner],
            "after": after[owner],
            "before_per_day": round(before[owner] / days, 2),
            "after_per_day": round(after[owner] / days, 2),
        }
        for owner in sorted(set(before) | set(after))
    ]


def _days(found: Impact, window: Window) -> int:
    """Return the days of the window; an end that is not given is that of the alerts."""
    alerted = [date.fromisoformat(row["day"]) for row in found.alerts if row["day"] != NO_DATE]
    first = window.start.date() if window.start else min(alerted, default=None)
    # The end of a window is left out of it.
    last = (
        (window.end - timedelta(microseconds=1)).date()
        if window.end
        else max(alerted, default=None)
    )
    return max((last - first).days + 1, 1) if first and last else 1


def _rows(found: Impact) -> list[dict[str, Any]]:
    rows = [_row("new", row) for row in found.new] + [_row("gone", row) for row in found.gone]
    return rows + [_row(f"changed {differing(*pair)}", *reversed(pair)) for pair in found.changed]


def _row(change: str, row: Mapping[str, Any], was: Mapping[str, Any] | None = None) -> Row:
    """Return one finding for the table: what changed in it is shown as it was and is."""

    def told(name: str) -> Any:
        before = row[name] if was is None else was[name]
        return row[name] if before == row[name] else f"{before} -> {row[name]}"

    shown = {name: told(name) for name in ("severity", "entity", "title")}
    return {"change": change, "owner": told("route_owner"), **shown}


def _summary(found: Impact, against: str, least: int) -> str:
    after = sum(row["after"] for row in found.alerts)
    before = sum(row["before"] for row in found.alerts)
    return (
        f"{len(found.new)} new, {len(found.gone)} gone, {len(found.changed)} changed,"
        f" {found.same} the same, against {against};"
        f" alerts of severity {least} and above: {before} before, {after} after"
    )
