"""Suppressions: which findings an entry of suppressions.yaml hides, and whether it still earns it.

A suppressed finding is still stored, updated and counted; it alerts nobody.  What is
critical is never hidden by a pattern.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.detections.check import KNOWN_COLUMNS, row_columns
from pipeline.detections.rule import MOST_SEVERE, Rule
from pipeline.lake.tables import tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import duckdb

IDLE = timedelta(days=90)
"""A suppression that hid nothing new for so long is reported."""
SOON = timedelta(days=14)


@dataclass(frozen=True)
class Suppression:
    """One active entry of suppressions.yaml."""

    id: str
    predicate: Mapping[str, Sequence[str]]
    reason: str


def load_suppressions(registry_table: pa.Table, rule: Rule, now: datetime) -> list[Suppression]:
    """Return the suppressions of a rule (by id or code) that are in force, by id."""
    return sorted(
        (
            Suppression(row["id"], json.loads(row["predicate"]), row["reason"])
            for row in registry_table.to_pylist()
            if row["rule"] in {rule.id, rule.code} and row["created_at"] <= now < row["expires_at"]
        ),
        key=lambda suppression: suppression.id,
    )


def hide(found: pa.Table, suppressions: Sequence[Suppression]) -> pa.Table:
    """Return the findings with `hidden_by` and `hidden_because`, null where nothing hides them.

    The first suppression by id that fits in every column counts, so that two that
    overlap do not take turns.
    """
    hiding: list[Suppression | None] = [None] * found.num_rows
    for at, row in enumerate(found.to_pylist() if suppressions else []):
        # What is nearly certain and critical is not hidden by a pattern.
        if row["severity"] < MOST_SEVERE:
            seen = row | json.loads(row["summary"]) | json.loads(row["identity"])
            hiding[at] = next((s for s in suppressions if _fits(s.predicate, seen)), None)
    ids = [s and s.id for s in hiding]
    because = [s and f"{s.id}: {s.reason}" for s in hiding]
    return found.append_column("hidden_by", pa.array(ids, pa.string())).append_column(
        "hidden_because", pa.array(because, pa.string())
    )


def _fits(predicate: Mapping[str, Sequence[str]], seen: Mapping[str, Any]) -> bool:
    return all(_words(seen.get(name)) & set(wanted) for name, wanted in predicate.items())


def suppressible(rule: Rule) -> set[str]:
    """Return the names that a predicate may hold: columns of findings, and of the rule's rows."""
    return {*tables()["findings"].schema.names, *KNOWN_COLUMNS, *row_columns(rule)}


def _words(value: Any) -> set[str]:
    """Return how a predicate may name a value: a list by any of its members, a flag as in YAML."""
    if value is None:
        return set()
    if isinstance(value, list):
        return {word for item in value for word in _words(item)}
    return {str(value).lower() if isinstance(value, bool) else str(value)}


def suppression_report(
    con: duckdb.DuckDBPyConnection, registry_table: pa.Table, now: datetime
) -> list[dict[str, Any]]:
    """Return each suppression with what it hides and what is wrong with it, by id.

    `con` has the lake's views.  `last_hid_at` is when it last kept something new from
    people: a new finding, or more evidence of one.  `problems` are texts.
    """
    query = """
        SELECT suppressed_by, count(DISTINCT finding_id) AS hidden_ever,
            max(changed_at) AS last_hid_at
        FROM finding_history WHERE suppressed_by IS NOT NULL GROUP BY suppressed_by
    """
    ever = {name: (count, last) for name, count, last in con.execute(query).fetchall()}
    query = """
        SELECT suppressed_by, count(*) AS hidden_now FROM findings
        WHERE status = 'suppressed' GROUP BY suppressed_by
    """
    current = dict(con.execute(query).fetchall())
    report = []
    for row in sorted(registry_table.to_pylist(), key=lambda row: str(row["id"])):
        hidden_ever, last = ever.get(row["id"], (0, None))
        report.append(
            row
            | {
                "predicate": json.loads(row["predicate"]),
                "hidden_now": current.get(row["id"], 0),
                "hidden_ever": hidden_ever,
                "last_hid_at": last,
                "problems": _problems(row, last, now),
            }
        )
    known = {row["id"] for row in report}
    report += [
        {"id": name, "hidden_now": count, "problems": ["is no longer in the registry"]}
        for name, count in sorted(current.items())
        if name not in known
    ]
    return report


def _problems(row: Mapping[str, Any], last_hid_at: datetime | None, now: datetime) -> list[str]:
    problems = []
    if row["expires_at"] <= now:
        problems.append("expired")
    elif row["expires_at"] <= now + SOON:
        problems.append(f"expires soon, in {(row['expires_at'] - now).days} days")
    idle = now - max(row["created_at"], last_hid_at or row["created_at"])
    if idle >= IDLE:
        problems.append(f"hid nothing new for {idle.days} days")
    return problems
