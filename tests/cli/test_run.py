"""`delegraph run` and `delegraph alerts`: the whole road in one process, and its end."""

import base64
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipeline.alerts.receive import Receiver
from pipeline.demo.broker import embedded_broker
from tests.cli.conftest import write_story

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def configure(folder, url, bootstrap="127.0.0.1:9"):
    text = f"""
[kafka]
bootstrap = "{bootstrap}"
[kafka.topics]
"agent.token_events" = "native"
[schedule]
build_s = 0.5
detect_s = 0.5
alert_s = 0.5
[[alerts.sinks]]
name = "soc"
url = "{url}"
secret_env = "SOC_SECRET"
allow_private = true
"""
    (folder / "delegraph.toml").write_text(text)


@pytest.fixture
def receiver():
    with Receiver(SECRET) as running:
        yield running


@pytest.mark.slow
def test_run_brings_an_event_to_a_verified_webhook_and_ends_on_sigterm(tmp_path, receiver):
    paths = write_story(tmp_path)
    with embedded_broker() as bootstrap:
        configure(tmp_path, receiver.url, bootstrap)
        producer = Producer({"bootstrap.servers": bootstrap})
        for line in b"".join(path.read_bytes() for path in paths).splitlines():
            producer.produce("agent.token_events", line)
        assert producer.flush(20) == 0
        service = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "SOC_SECRET": SECRET},
            stderr=subprocess.PIPE,
            text=True,
        )
        with service:
            lines = iter(service.stderr.readline, "")
            sent = next(line for line in lines if "alerts sent" in line)
            service.send_signal(signal.SIGTERM)
            said = service.stderr.read()

    assert service.returncode == 0
    assert "delivered=" in sent
    assert "stored 3 records" in said
    codes = {body["data"]["rule_code"] for body in receiver.received.values()}
    assert {"PC-01", "PC-02"} <= codes
    assert receiver.refused == 0
    assert any("WIDENED" in body["data"]["chain_text"] for body in receiver.received.values())


def test_run_ends_with_the_error_of_its_ingest(cli, tmp_path, receiver, monkeypatch):
    monkeypatch.setenv("SOC_SECRET", SECRET)
    with embedded_broker() as bootstrap:
        configure(tmp_path, receiver.url, bootstrap)
        text = (tmp_path / "delegraph.toml").read_text()
        (tmp_path / "delegraph.toml").write_text(text.replace("agent.token", "no.such"))

        result = cli("run", "--once")

    assert result.code == 4
    assert "no.such_events" in result.err


def test_alerts_are_sent_once_and_tested_on_demand(cli, story, tmp_path, receiver, monkeypatch):
    monkeypatch.setenv("SOC_SECRET", SECRET)
    configure(tmp_path, receiver.url)
    cli("detect", "--only", "PC-01", "--as-of", "2026-11-21")

    first, second = cli("alerts", "send").json, cli("alerts", "send").json
    tried = cli("alerts", "test", "--to", "soc")

    assert (first["delivered"], second["delivered"]) == (1, 0)
    assert tried.code == 0
    assert [body["type"] for body in receiver.received.values()] == ["finding.created", "test"]


def test_a_test_alert_that_fails_says_so_without_the_url(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("SOC_SECRET", SECRET)
    configure(tmp_path, "http://127.0.0.1:9/T0KEN")

    result = cli("alerts", "test", "--to", "soc")

    assert result.code == 2
    assert "soc: connection refused" in result.err
    assert "T0KEN" not in result.err


def test_a_dry_run_prints_the_body_and_needs_no_sink(cli):
    assert cli("alerts", "test", "--to", "soc", "--dry-run").json["type"] == "test"
