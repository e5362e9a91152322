"""The run ledger: one row per (rule, window), so that no window is run twice or forgotten.

On a local disk one detection runs at a time: a kernel lock, which its holder's
death releases, so a `running` row that is found under the lock was left by a
crash.  On an object store there is no lock; there a claim is a lease in the row,
read back after it was written.  Two runs that slip through write equal rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.errors import LakeError
from pipeline.lake.lock import acquire
from pipeline.lake.tables import tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from pipeline.detections.rule import Rule
    from pipeline.lake import Lake

LEASE = timedelta(minutes=30)
WAIT_S = 600.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Window:
    """A span of event time, [start, end); None is from the beginning, or up to now.

    An open window (no end) is never finished: it can be run again and again.
    """

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True)
class Task:
    """One look of one rule over `span`, which does all of `windows`."""

    rule: Rule
    windows: tuple[Window, ...]
    span: Window


@dataclass(frozen=True)
class Claim:
    """The right to do a task now: its windows that are left to do, with their ledger rows."""

    rule: Rule
    span: Window
    windows: tuple[Window, ...]
    rows: tuple[Mapping[str, Any], ...]


def run_id(rule: Rule, window: Window) -> str:
    """Return the id of a (rule, version, window).

    The open window of a rule is one, wherever it begins: a look back over the last
    day, taken every minute, is the same line of the ledger each time.
    """
    start = window.start if window.end else None
    times = [time and time.isoformat() for time in (start, window.end)]
    return hashlib.sha256(json.dumps([rule.id, rule.version, times]).encode()).hexdigest()


@contextmanager
def alone(lake: Lake, wait_s: float = WAIT_S) -> Iterator[None]:
    """Wait until no other detection runs on this lake, and keep others out.

    Raises:
        LakeError: another one has not finished in time.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            lock = acquire(lake.uri, "detect")
            break
        except LakeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


def claim(lake: Lake, tasks: Sequence[Task], *, again: bool, started_at: datetime) -> list[Claim]:
    """Return claims on what this run shall do, written down as `running`.

    Left out: windows that another run holds, and, unless `again`, closed windows that
    are done.  A window that waits for late sources, or failed, is tried again.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    stored = _stored(lake, [run_id(task.rule, window) for task in tasks for window in task.windows])
    claims = []
    for task in tasks:
        mine = []
        for window in task.windows:
            before = stored.get(run_id(task.rule, window), {})
            is_held = before.get("state") == "running" and before["lease_until"] > started_at
            is_done = before.get("state") == "done" and window.end is not None
            # Under the lock nobody else can be at work: who held it is dead.
            if (is_held and not lake.is_local) or (is_done and not again):
                continue
            attempts = (before.get("attempts") or 0) + 1
            mine.append((window, _claimed(task.rule, window, owner, started_at, attempts)))
        if mine:
            windows, rows = zip(*mine, strict=True)
            claims.append(Claim(task.rule, task.span, windows, rows))
    write(lake, [row for one in claims for row in one.rows])
    return claims if lake.is_local else _held(lake, claims, owner)


def _claimed(
    rule: Rule, window: Window, owner: str, started_at: datetime, attempts: int
) -> dict[str, Any]:
    return {
        "run_id": run_id(rule, window),
        "rule_id": rule.id,
        "rule_version": rule.version,
        "window_from": window.start,
        "window_to": window.end,
        "state": "running",
        "lease_owner": owner,
        "lease_until": started_at + LEASE,
        "attempts": attempts,
        "started_at": started_at,
    }


def _held(lake: Lake, claims: Sequence[Claim], owner: str) -> list[Claim]:
    """Return the claims without the windows that another run wrote its name on after us."""
    stored = _stored(lake, [row["run_id"] for one in claims for row in one.rows])
    held = []
    for one in claims:
        kept = [
            (window, row)
            for window, row in zip(one.windows, one.rows, strict=True)
            if stored[row["run_id"]]["lease_owner"] == owner
        ]
        if kept:
            windows, rows = zip(*kept, strict=True)
            held.append(Claim(one.rule, one.span, windows, rows))
    return held


def write(lake: Lake, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Put ledger rows in place of those with the same run_id; return them as a table."""
    schema = tables()["runs"].schema
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    lake.merge("runs", table)
    return table


def _stored(lake: Lake, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    with lake.connect(comments=False) as con:
        query = "SELECT * FROM runs WHERE run_id IN (SELECT unnest($ids::VARCHAR[]))"
        rows = con.sql(query, params={"ids": list(ids)}).to_arrow_table().to_pylist()
    return {row["run_id"]: row for row in rows}
