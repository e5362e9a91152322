"""The durable outbox: what waits for which sink, and when it is tried next.

The functions that decide are pure; those that touch the lake say so.  Putting an
alert in twice changes nothing, because a delivery is named by its alert and sink.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.alerts.alert import Alert, Outcome

# Standard Webhooks: the wait before each attempt, the first at once.
WAITS_S = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
MAX_RETRY_AFTER_S = 86_400.0

State = Literal["pending", "delivered", "dead"]


@dataclass(frozen=True)
class Delivery:
    """One alert for one sink: a row of `outbox`."""

    delivery_id: str
    alert_id: str
    finding_id: str
    tenant_id: str
    sink: str
    body: str
    state: State
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class Attempt:
    """One try of one delivery: a row of `deliveries`."""

    attempt_id: str
    delivery_id: str
    alert_id: str
    finding_id: str
    sink: str
    attempt: int
    attempted_at: datetime
    outcome: Literal["delivered", "retry", "dead"]
    status_code: int | None
    error: str | None
    next_attempt_at: datetime | None


def delivery_of(alert: Alert, sink: str, now: datetime) -> Delivery:
    """Return the outbox row of an alert for a sink."""
    digest = hashlib.sha256(f"{alert.alert_id}\x1f{sink}".encode()).hexdigest()
    # The id is the webhook-id: no dot in it, the same for all attempts.
    return Delivery(
        f"msg_{digest[:40]}",
        alert.alert_id,
        alert.finding_id,
        alert.tenant_id,
        sink,
        alert.body,
        "pending",
        0,
        now,
        now,
    )


def after(delivery: Delivery, outcome: Outcome, at: datetime) -> tuple[Delivery, Attempt]:
    """Return the outbox row after an attempt, and the attempt's own row."""
    number = delivery.attempts + 1
    retry_at = None if outcome.delivered or outcome.gone else _retry_at(delivery, outcome, at)
    state: State = "pending"
    if retry_at is None:
        state = "delivered" if outcome.delivered else "dead"
    # The time is part of the id: an attempt whose row was lost with a crash is made again.
    identity = f"{delivery.delivery_id}\x1f{number}\x1f{at.isoformat()}"
    attempt = Attempt(
        hashlib.sha256(identity.encode()).hexdigest(),
        delivery.delivery_id,
        delivery.alert_id,
        delivery.finding_id,
        delivery.sink,
        number,
        at,
        "retry" if state == "pending" else state,
        outcome.status_code,
        outcome.error,
        retry_at,
    )
    return replace(delivery, state=state, attempts=number, next_attempt_at=retry_at), attempt


def _retry_at(delivery: Delivery, outcome: Outcome, at: datetime) -> datetime | None:
    """Return when to try again, None when the last attempt has been made."""
    number = delivery.attempts + 1
    if number >= len(WAITS_S):
        return None
    asked_s = min(outcome.retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    # Never earlier than asked: jitter only adds.
    wait_s = max(float(WAITS_S[number]), asked_s)
    return at + timedelta(seconds=wait_s * (1 + JITTER * _dice(delivery.delivery_id, number)))


def _dice(delivery_id: str, number: int) -> float:
    """Return a number in [0, 1) that spreads deliveries and is the same when repeated."""
    digest = hashlib.sha256(f"{delivery_id}\x1f{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def as_rows(records: Iterable[Delivery | Attempt]) -> list[dict[str, Any]]:
    """Return records as rows of their table."""
    return [dict(vars(record)) for record in records]


def as_delivery(row: Mapping[str, Any]) -> Delivery:
    """Return an outbox row as a record."""
    return Delivery(**{name: row[name] for name in Delivery.__dataclass_fields__})
