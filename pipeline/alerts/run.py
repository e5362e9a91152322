"""Tell sinks what they do not know yet.  Read this first: the stage in order.

Findings become alerts, alerts become outbox rows, due rows are sent and their
attempts recorded.  Every step may be repeated: a crash after a send and before
its record sends the same `webhook-id` again, which receivers drop.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from pipeline.alerts.alert import Alert, Told, make_alert, news
from pipeline.alerts.outbox import Attempt, Delivery, after, as_delivery, as_rows, delivery_of
from pipeline.lake.lock import acquire
from pipeline.lake.tables import tables
from pipeline.log import get_log

if TYPE_CHECKING:
    from pipeline.alerts.sinks import Sink
    from pipeline.lake import Lake

# Outcomes are committed together: one commit per send would cost more than the send.
COMMIT_EVERY = 25
# A receiver that is down costs one timeout per attempt; the rest waits for the next run.
GIVE_UP_AFTER = 3

Describe = Callable[[duckdb.DuckDBPyConnection, str], str | None]

_log = get_log(__name__)


@dataclass(frozen=True)
class AlertReport:
    """What one run did."""

    enqueued: int = 0
    delivered: int = 0
    retry: int = 0
    dead: int = 0
    waiting: int = 0
    """Deliveries that stay in the outbox, due or not."""
    disabled: tuple[str, ...] = ()
    """Sinks that answered 410: `delegraph alerts test` brings one back."""


def send_alerts(
    lake: Lake,
    sinks: Sequence[Sink],
    now: datetime | None = None,
    *,
    describe: Describe | None = None,
) -> AlertReport:
    """Put new alerts into the outbox and attempt every delivery that is due.

    `now` is when the run starts, by default the clock.  `describe` gives the chain
    of a credential as text.

    Raises:
        LakeError: another process is sending this lake's alerts.
    """
    clock = _clock(now)
    sending = acquire(lake.uri, "alerts")
    try:
        enqueued = enqueue(lake, sinks, clock(), describe)
        attempts = _attempt_due(lake, sinks, clock)
    finally:
        sending.release()
    with lake.connect(comments=False) as con:
        left = con.execute(_sql("waiting")).fetchall()
    outcomes = [attempt.outcome for attempt in attempts]
    report = AlertReport(
        enqueued,
        outcomes.count("delivered"),
        outcomes.count("retry"),
        outcomes.count("dead"),
        sum(count for _, count, _ in left),
        tuple(sink for sink, _, disabled in left if disabled),
    )
    if enqueued or attempts:
        _log.info("alerts sent", **vars(report))
    return report


def enqueue(
    lake: Lake, sinks: Sequence[Sink], now: datetime, describe: Describe | None = None
) -> int:
    """Put what the sinks do not know yet into the outbox; return how many rows are new."""
    if not sinks:
        return 0
    with lake.connect(comments=False) as con:
        told = _told(con)
        least = min(sink.min_severity for sink in sinks)
        findings = _rows(con.execute(_sql("candidates"), {"min_severity": least}))
        fresh = [
            delivery_of(alert, sink.name, now)
            for finding in findings
            for sink in sinks
            if (
                alert := _alert(
                    con, finding, told[finding["finding_id"], sink.name], sink, describe
                )
            )
        ]
    if fresh:
        lake.merge("outbox", _table("outbox", fresh))
    return len(fresh)


def _alert(
    con: duckdb.DuckDBPyConnection,
    finding: Mapping[str, Any],
    told: list[Told],
    sink: Sink,
    describe: Describe | None,
) -> Alert | None:
    kind = news(finding, told, sink.min_severity)
    if kind is None:
        return None
    key = finding["credential_key"]
    return make_alert(finding, kind, told, describe(con, key) if describe and key else None)


def _told(con: duckdb.DuckDBPyConnection) -> defaultdict[tuple[str, str], list[Told]]:
    told: defaultdict[tuple[str, str], list[Told]] = defaultdict(list)
    for finding_id, sink, kind, severity in con.execute(_sql("told")).fetchall():
        told[finding_id, sink].append(Told(kind, severity))
    return told


def _attempt_due(lake: Lake, sinks: Sequence[Sink], clock: Callable[[], datetime]) -> list[Attempt]:
    with lake.connect(comments=False) as con:
        due = [as_delivery(row) for row in _rows(con.execute(_sql("due"), {"now": clock()}))]
    attempts: list[Attempt] = []
    for sink in sinks:
        mine = [delivery for delivery in due if delivery.sink == sink.name]
        attempts += _attempt_sink(lake, sink, mine, clock)
    return attempts


def _attempt_sink(
    lake: Lake, sink: Sink, due: list[Delivery], clock: Callable[[], datetime]
) -> list[Attempt]:
    attempts: list[Attempt] = []
    failed_in_row = 0
    for start in range(0, len(due), COMMIT_EVERY):
        tried: list[tuple[Delivery, Attempt]] = []
        for delivery in due[start : start + COMMIT_EVERY]:
            at = clock()
            outcome = sink.send(delivery.delivery_id, delivery.body, at)
            tried.append(after(delivery, outcome, at))
            failed_in_row = 0 if outcome.delivered else failed_in_row + 1
            if outcome.gone or outcome.retry_after_s or failed_in_row >= GIVE_UP_AFTER:
                failed_in_row = GIVE_UP_AFTER
                break
        made = [attempt for _, attempt in tried]
        record(lake, [delivery for delivery, _ in tried], made)
        attempts += made
        if failed_in_row >= GIVE_UP_AFTER:
            break
    return attempts


def record(lake: Lake, deliveries: Sequence[Delivery], attempts: Sequence[Attempt]) -> None:
    """Store attempts and what has become of their deliveries."""
    # The log of attempts goes first: a crash between the two repeats a send that
    # receivers recognise, and hides none.
    lake.append_rows("deliveries", _table("deliveries", attempts))
    lake.merge("outbox", _table("outbox", deliveries))


def _table(name: str, records: Sequence[Delivery] | Sequence[Attempt]) -> pa.Table:
    return pa.Table.from_pylist(as_rows(records), schema=tables()[name].schema)


def _rows(relation: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in relation.description or []]
    return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]


def _sql(name: str) -> str:
    return (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")


def _clock(now: datetime | None) -> Callable[[], datetime]:
    """Return a clock that starts at `now` and runs on; signatures need the time of the attempt."""
    if now is None:
        return lambda: datetime.now(UTC)
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)
