from datetime import UTC, datetime

import pytest

from pipeline.alerts.alert import Alert, Outcome
from pipeline.alerts.outbox import WAITS_S, after, delivery_of

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ALERT = Alert("a1", "f1", "default", "finding.created", "{}")
FAILED = Outcome(delivered=False, status_code=503, error="HTTP 503")


def test_an_alert_for_a_sink_has_one_delivery_id_without_a_dot():
    first = delivery_of(ALERT, "soc", NOW)

    assert first.delivery_id == delivery_of(ALERT, "soc", NOW.replace(year=2027)).delivery_id
    assert first.delivery_id != delivery_of(ALERT, "ops", NOW).delivery_id
    assert "." not in first.delivery_id


def test_failures_follow_the_schedule_and_end_dead():
    delivery, at, waits = delivery_of(ALERT, "soc", NOW), NOW, []

    while delivery.state == "pending":
        delivery, attempt = after(delivery, FAILED, at)
        if attempt.next_attempt_at:
            waits.append((attempt.next_attempt_at - at).total_seconds())
            at = attempt.next_attempt_at

    assert delivery.state == "dead"
    assert delivery.attempts == len(WAITS_S) == 10
    assert all(wait <= taken < wait * 1.2 for wait, taken in zip(WAITS_S[1:], waits, strict=True))


def test_jitter_parts_deliveries_that_failed_together():
    alerts = [Alert(f"a{n}", "f1", "default", "finding.created", "{}") for n in range(20)]

    times = {
        after(delivery_of(alert, "soc", NOW), FAILED, NOW)[0].next_attempt_at for alert in alerts
    }

    assert len(times) == 20


@pytest.mark.parametrize(
    ("asked_s", "least", "most"), [(60, 60, 72), (1, 5, 6), (1e9, 86400, 103680)]
)
def test_retry_after_is_honoured_within_a_day(asked_s, least, most):
    outcome = Outcome(delivered=False, status_code=429, retry_after_s=asked_s)

    waited = after(delivery_of(ALERT, "soc", NOW), outcome, NOW)[0].next_attempt_at - NOW

    assert least <= waited.total_seconds() <= most


def test_success_ends_a_delivery():
    delivery, attempt = after(
        delivery_of(ALERT, "soc", NOW), Outcome(delivered=True, status_code=200), NOW
    )

    assert (delivery.state, delivery.next_attempt_at) == ("delivered", None)
    assert (attempt.outcome, attempt.attempt, attempt.status_code) == ("delivered", 1, 200)


def test_gone_is_dead_at_once():
    outcome = Outcome(delivered=False, status_code=410, gone=True)

    delivery, attempt = after(delivery_of(ALERT, "soc", NOW), outcome, NOW)

    assert (delivery.state, attempt.outcome) == ("dead", "dead")
