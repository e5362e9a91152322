"""What a changed rule would do: run it over the lake's history and write nothing.

Takes a rule and what to hold it against; leaves which findings are new, gone and
changed, and how many alerts each owner may expect per day.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.detections.check import EPOCH
from pipeline.detections.finding import Look
from pipeline.detections.policy import read_policy
from pipeline.detections.run import FOREVER, examine, register_policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import duckdb

    from pipeline.detections.ledger import Window
    from pipeline.detections.rule import Rule
    from pipeline.lake import Lake
    from pipeline.registry import Registry

# What makes a finding another one to whoever reads it.
_COMPARED = ("severity", "title", "entity", "status", "route_owner", "first_seen", "last_seen")

NO_DATE = "no date"

Row = dict[str, Any]
# A changed rule may have another major version, and so other finding ids.
Key = tuple[str, str]


@dataclass(frozen=True)
class Trial:
    """What to try: the changed rule, over which event time, as of when, against what."""

    rule: Rule
    window: Window
    now: datetime
    baseline: Rule | None = None
    """None: the stored findings of the same rule id."""


@dataclass(frozen=True)
class Impact:
    """What came out; rows are findings, `changed` pairs of before and after."""

    new: list[Row]
    gone: list[Row]
    changed: list[tuple[Row, Row]]
    same: int
    alerts: list[Row]
    """Per day of the first evidence and owner: `before` and `after`, numbers of alerts."""


def find_impact(lake: Lake, registry: Registry, trial: Trial, *, min_severity: int = 1) -> Impact:
    """Return what the changed rule would find and no longer find; nothing is written.

    Findings below `min_severity`, or hidden by a suppression, alert nobody.

    Raises:
        RuleError: a rule does not run.
    """
    policy = read_policy(lake, registry)
    with lake.connect(comments=False) as con:
        register_policy(con, policy)
        after = _by_key(_found(con, policy, trial, trial.rule))
        if trial.baseline:
            before = _by_key(_found(con, policy, trial, trial.baseline))
        else:
            before = _by_key(_stored(con, trial))
    both = sorted(set(before) & set(after))
    changed = [(before[key], after[key]) for key in both if differing(before[key], after[key])]
    return Impact(
        new=[after[key] for key in sorted(set(after) - set(before))],
        gone=[before[key] for key in sorted(set(before) - set(after))],
        changed=changed,
        same=len(both) - len(changed),
        alerts=_alerts(before.values(), after.values(), min_severity),
    )


def differing(before: Row, after: Row) -> str:
    """Return what makes two findings of one identity differ to whoever reads them; or nothing."""
    return ", ".join(name for name in _COMPARED if before[name] != after[name])


def is_stored(lake: Lake, rule_id: str) -> bool:
    """Return whether a rule of this id has run on this lake."""
    query = "SELECT count(*) FROM runs WHERE rule_id = $rule_id AND state = 'done'"
    with lake.connect(comments=False) as con:
        return bool(con.execute(query, {"rule_id": rule_id}).fetchall()[0][0])


def _found(
    con: duckdb.DuckDBPyConnection, registry: Registry, trial: Trial, rule: Rule
) -> Sequence[Row]:
    start, end = trial.window.start or EPOCH, trial.window.end or FOREVER
    look = Look(rule, start, end, trial.now, registry.policy_version)
    # Only the window counts; what the engine reviews beside it is no matter here.
    rows = examine(con, look, registry).changes.found.to_pylist()
    return [row for row in rows if _is_inside(row, start, end)]


def _stored(con: duckdb.DuckDBPyConnection, trial: Trial) -> Sequence[Row]:
    # What a run has ended is true no longer, whatever the rule says.
    query = """
        SELECT * FROM findings
        WHERE rule_id = $rule_id
            AND (status IN ('open', 'accepted', 'suppressed') OR decided_by IS NOT NULL)
    """
    rows = con.sql(query, params={"rule_id": trial.rule.id}).to_arrow_table().to_pylist()
    start, end = trial.window.start or EPOCH, trial.window.end or FOREVER
    return [row for row in rows if _is_inside(row, start, end)]


def _is_inside(row: Row, start: datetime, end: datetime) -> bool:
    last = row["last_seen"] or row["first_seen"]
    return last is None or start <= last < end


def _by_key(rows: Sequence[Row]) -> dict[Key, Row]:
    return {(row["tenant_id"], row["identity"]): row for row in rows}


def _alerts(before: Any, after: Any, min_severity: int) -> list[Row]:
    counts = {"before": Counter[tuple[str, str]](), "after": Counter[tuple[str, str]]()}
    for name, rows in (("before", before), ("after", after)):
        counts[name].update(
            _day_and_owner(row)
            for row in rows
            if row["status"] == "open" and row["severity"] >= min_severity
        )
    return [
        {
            "day": day,
            "owner": owner,
            "before": counts["before"][day, owner],
            "after": counts["after"][day, owner],
        }
        for day, owner in sorted(set(counts["before"]) | set(counts["after"]))
    ]


def _day_and_owner(row: Mapping[str, Any]) -> tuple[str, str]:
    first = row["first_seen"] or row["last_seen"]
    return (first.date().isoformat() if first else NO_DATE, row["route_owner"] or "unowned")
