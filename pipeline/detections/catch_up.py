"""What a scheduler has to do: the windows that are not done, in as few looks as give the same.

Reads the ledger, takes rules and the time; leaves tasks.  Windows are `every_s`
long and begin at whole multiples of it, so that every scheduler means the same ones.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.detections.check import EPOCH
from pipeline.detections.ledger import Task, Window, run_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import duckdb

    from pipeline.detections.rule import Rule

MOST_WINDOWS = 240
"""Closed windows of one rule that one run does; the rest waits for the next run."""
FIRST_LOOK_BACK = timedelta(days=7)
"""Where the ledger of a rule begins if it never ran and nobody says since when."""

_BOUND_TO_WINDOW = re.compile(r"\$(from|to)\b")


def plan(
    con: duckdb.DuckDBPyConnection,
    rules: Iterable[Rule],
    *,
    since: datetime | None,
    now: datetime,
    most: int = MOST_WINDOWS,
) -> list[Task]:
    """Return what is left to do per rule: missed closed windows, oldest first, and the open one.

    A rule that does not ask for its window sees everything in any case: one look does
    all of its windows, and gives what one look per window would have given.  A rule
    that binds $from or $to gets one look for each.  `con` has the lake's views.
    """
    rules = list(rules)
    begun, done = _ledger(con, rules)
    first = None if since else _first_event(con)
    tasks = []
    for rule in rules:
        start = since or begun.get(rule.id) or max(first or now, now - FIRST_LOOK_BACK)
        closed = [
            window for window in windows(rule, start, now) if run_id(rule, window) not in done
        ][:most]
        if is_bound_to_window(rule):
            tasks += [Task(rule, (window,), window) for window in closed]
            opened = Window(_floor(rule, now))
            tasks.append(Task(rule, (opened,), opened))
        else:
            span = Window(_floor(rule, since) if since else None)
            tasks.append(Task(rule, (*closed, span), span))
    return tasks


def windows(rule: Rule, since: datetime, now: datetime) -> list[Window]:
    """Return the closed windows of a rule from the one that `since` lies in, oldest first."""
    length, start = timedelta(seconds=max(rule.every_s, 1)), _floor(rule, since)
    count = max((now - start) // length, 0)
    return [Window(start + n * length, start + (n + 1) * length) for n in range(count)]


def is_bound_to_window(rule: Rule) -> bool:
    """Return whether a rule's SQL asks over which window it is run."""
    return any(_BOUND_TO_WINDOW.search(sql) for sql in rule.sql.values())


def _floor(rule: Rule, moment: datetime) -> datetime:
    length = timedelta(seconds=max(rule.every_s, 1))
    return EPOCH + (moment - EPOCH) // length * length


def _ledger(
    con: duckdb.DuckDBPyConnection, rules: Sequence[Rule]
) -> tuple[dict[str, datetime], set[str]]:
    """Return where the closed windows of each rule begin, and which runs are done."""
    ids = {"ids": [rule.id for rule in rules]}
    # Windows that someone asked for by hand have other lengths.
    begun = """
        SELECT rule_id, epoch(window_to - window_from)::BIGINT AS length_s, min(window_from)
        FROM runs
        WHERE rule_id IN (SELECT unnest($ids::VARCHAR[])) AND window_from IS NOT NULL
        GROUP BY ALL
    """
    done = """
        SELECT run_id FROM runs
        WHERE rule_id IN (SELECT unnest($ids::VARCHAR[])) AND state = 'done'
    """
    lengths = {rule.id: rule.every_s for rule in rules}
    firsts = {
        rule: start.astimezone(UTC)
        for rule, length_s, start in con.execute(begun, ids).fetchall()
        if length_s == lengths[rule]
    }
    return firsts, {row[0] for row in con.execute(done, ids).fetchall()}


def _first_event(con: duckdb.DuckDBPyConnection) -> datetime | None:
    query = "SELECT min(first_event_time) FROM watermarks"
    first: datetime | None = con.execute(query).fetchall()[0][0]
    return first and first.astimezone(UTC)
