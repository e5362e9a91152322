import base64
import json
from datetime import UTC, datetime

import pytest

from pipeline.alerts.alert import Alert, Outcome, trial_alert
from pipeline.alerts.outbox import after, delivery_of
from pipeline.alerts.receive import Receiver
from pipeline.alerts.sinks.webhook import Webhook
from pipeline.config import Secret
from tests.alerts.server import scripted

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def hook(url):
    return Webhook(name="soc", url=Secret(url), secret=Secret(SECRET), allow_private=True)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(status, "delivered") for status in (200, 201, 202, 204)]
    + [(status, "retry") for status in (301, 302, 307, 400, 401, 404, 408, 429, 500, 502, 503)]
    + [(410, "dead")],
)
def test_only_2xx_is_success_and_only_410_is_final(status, outcome):
    alert = Alert("a1", "f1", "default", "finding.created", "{}")

    with scripted((status, {})) as server:
        result = hook(server.url).send("msg_1", "{}", NOW)

    assert result.status_code == status
    assert after(delivery_of(alert, "soc", NOW), result, NOW)[1].outcome == outcome


def test_what_the_receiver_asks_for_is_heard():
    with scripted((429, {"Retry-After": "90"})) as server:
        result = hook(server.url).send("msg_1", "{}", NOW)

    assert result == Outcome(delivered=False, status_code=429, error="HTTP 429", retry_after_s=90.0)


def test_no_connection_is_an_outcome_and_no_exception():
    assert hook("http://127.0.0.1:9/").send("msg_1", "{}", NOW).error == "connection refused"


def test_the_sample_receiver_takes_what_is_genuine_and_drops_repeats():
    now = datetime.now(UTC)
    with Receiver(SECRET) as receiver:
        sink = hook(receiver.url)
        body = trial_alert("soc", now).body
        results = [sink.send("msg_1", body, now) for _ in range(2)]

    assert [result.status_code for result in results] == [204, 204]
    assert receiver.received == {"msg_1": json.loads(body)}
    assert receiver.repeated == 1


def test_the_sample_receiver_refuses_another_secret_and_an_old_message():
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()
    with Receiver(other) as receiver:
        wrong = hook(receiver.url).send("msg_1", "{}", datetime.now(UTC))
    with Receiver(SECRET) as receiver:
        old = hook(receiver.url).send("msg_1", "{}", NOW.replace(year=2020))

    assert (wrong.status_code, old.status_code) == (401, 401)
