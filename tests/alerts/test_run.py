import base64
import io
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from standardwebhooks import Webhook as Reference

from pipeline.alerts import send_alerts
from pipeline.alerts.receive import Receiver
from pipeline.alerts.sinks.webhook import Webhook
from pipeline.config import Secret
from pipeline.errors import LakeError
from pipeline.lake.lock import acquire
from pipeline.lake.tables import tables
from pipeline.log import configure_logging
from tests.alerts.server import scripted

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def sink(url, name="soc", **over):
    return Webhook(name=name, url=Secret(url), secret=Secret(SECRET), allow_private=True, **over)


def put(lake, now, finding_id="f1", **over):
    row = dict.fromkeys(tables()["findings"].schema.names) | {
        "finding_id": finding_id,
        "rule_id": "scope_widened",
        "rule_code": "PC-01",
        "rule_version": "1.0.0",
        "family": "PC",
        "severity": 4,
        "confidence": 0.9,
        "tenant_id": "default",
        "title": "wider",
        "entity": "deploy-bot",
        "status": "open",
        "first_seen": now,
        "last_seen": now,
        "event_uids": ["a" * 64],
        "chain_path": ["alice", "planner"],
        "detected_at": now,
        "updated_at": now,
    }
    table = pa.Table.from_pylist([row | over], schema=tables()["findings"].schema)
    lake.merge("findings", table)


def rows(lake, query):
    with lake.connect() as con:
        return con.execute(query).fetchall()


def test_a_finding_reaches_the_receiver_once_and_verifies(lake):
    with Receiver(SECRET) as receiver:
        now = datetime.now(UTC)
        put(lake, now)
        reports = [send_alerts(lake, [sink(receiver.url)]) for _ in range(2)]

    assert [(r.enqueued, r.delivered) for r in reports] == [(1, 1), (0, 0)]
    assert [body["data"]["finding_id"] for body in receiver.received.values()] == ["f1"]
    assert (receiver.refused, receiver.repeated) == (0, 0)


def test_the_reference_library_accepts_the_request(lake, now):
    put(lake, now)
    with scripted() as server:
        send_alerts(lake, [sink(server.url)])

    _, headers, body = server.requests[0]
    assert Reference(SECRET).verify(body, headers)["type"] == "finding.created"


def test_a_failed_attempt_is_made_again_with_the_same_id_when_it_is_due(lake, now):
    put(lake, now)
    with scripted((503, {}), (204, {})) as server:
        hook = [sink(server.url)]
        first = send_alerts(lake, hook, now)
        early = send_alerts(lake, hook, now + timedelta(seconds=2))
        later = send_alerts(lake, hook, now + timedelta(seconds=10))

    assert (first.retry, first.waiting) == (1, 1)
    assert early.delivered == early.retry == 0
    assert (later.delivered, later.waiting) == (1, 0)
    ids = [headers["webhook-id"] for _, headers, _ in server.requests]
    stamps = [int(headers["webhook-timestamp"]) for _, headers, _ in server.requests]
    assert len(set(ids)) == 1
    assert stamps[1] - stamps[0] >= 9
    log = rows(lake, "SELECT attempt, outcome, status_code FROM deliveries ORDER BY attempt")
    assert log == [(1, "retry", 503), (2, "delivered", 204)]


def test_a_sink_that_is_gone_gets_nothing_more_and_keeps_what_waits(lake, now):
    put(lake, now, "f1")
    put(lake, now + timedelta(seconds=1), "f2")
    with scripted((410, {})) as server:
        report = send_alerts(lake, [sink(server.url)], now)
        again = send_alerts(lake, [sink(server.url)], now + timedelta(days=2))

    assert (report.dead, report.waiting, report.disabled) == (1, 1, ("soc",))
    assert again.disabled == ("soc",)
    assert len(server.requests) == 1


def test_a_receiver_that_is_down_does_not_cost_one_timeout_per_alert(lake, now):
    for number in range(8):
        put(lake, now, f"f{number}")
    with scripted((500, {})) as server:
        report = send_alerts(lake, [sink(server.url)], now)

    assert len(server.requests) == 3
    assert (report.enqueued, report.retry, report.waiting) == (8, 3, 8)


def test_each_sink_hears_of_its_own_severities(lake, now):
    put(lake, now, "f3", severity=3)
    put(lake, now, "f5", severity=5)
    with scripted() as soc, scripted() as pager:
        send_alerts(lake, [sink(soc.url), sink(pager.url, "pager", min_severity=5)], now)

    assert (len(soc.requests), len(pager.requests)) == (2, 1)


def test_a_finding_that_gets_worse_and_then_ends_is_told_so(lake, now):
    with Receiver(SECRET) as receiver:
        hook = [sink(receiver.url)]
        for over in ({"severity": 3}, {"severity": 4}, {"severity": 4}, {"status": "refuted"}):
            put(lake, now, **over)
            send_alerts(lake, hook)

    types = [body["type"] for body in receiver.received.values()]
    assert types == ["finding.created", "finding.updated", "finding.resolved"]


def test_findings_below_the_threshold_or_not_open_alert_nobody(lake, now):
    put(lake, now, "f1", severity=2)
    put(lake, now, "f2", status="suppressed")

    assert send_alerts(lake, [sink("http://127.0.0.1:9/")], now).enqueued == 0


def test_neither_url_nor_secret_is_stored_or_logged(lake, now, tmp_path):
    put(lake, now)
    written = io.StringIO()
    configure_logging("DEBUG", written)
    with scripted((500, {})) as server:
        hook = sink(server.url)
        send_alerts(lake, [hook], now)
    configure_logging()

    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (written.getvalue(), repr(hook), stored.decode("latin-1")):
        assert "T0KEN" not in text
        assert SECRET not in text
    assert "alerts sent" in written.getvalue()


def test_the_chain_is_told_as_text(lake, now):
    put(lake, now, credential_key="k1")
    with Receiver(SECRET) as receiver:
        send_alerts(lake, [sink(receiver.url)], describe=lambda _con, key: f"chain of {key}")

    (body,) = receiver.received.values()
    assert body["data"]["chain_text"] == "chain of k1"


def test_two_senders_do_not_send_at_once(lake, now):
    other = acquire(lake.uri, "alerts")
    try:
        with pytest.raises(LakeError, match="alerts is held by"):
            send_alerts(lake, [], now)
    finally:
        other.release()
