"""Ingest against the bare consume loop of the same client, on the same broker, in one run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime

from benchmarks.table import Row
from pipeline.demo.encode import Wire
from pipeline.demo.generate import Stream
from pipeline.demo.produce import Outlet, produce
from tests.integration.kafka import kafka_node
from tests.integration.members import topics_of

EVENTS, NAIVE_EVENTS, ROUNDS, PARTITIONS = 1_000_000, 40_000, 3, 6
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def run_ingest(scale: float) -> list[Row]:
    """Produce once, then read the same records in every way, round by round."""
    events, peer_events = int(EVENTS * scale), int(NAIVE_EVENTS * scale)
    topics = topics_of("bench")
    found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": [], "naive": []}
    with kafka_node(heap_mb=1024) as kafka:
        kafka.create_topics(dict.fromkeys(topics.values(), PARTITIONS))
        stream = Stream(events, 1, NOW)
        size = 0
        for sent in produce(stream, Outlet(kafka.bootstrap, Wire(json_share=0.0), topics)):
            size = sent.bytes
        for _ in range(ROUNDS):
            for kind, results in found.items():
                count = peer_events if kind == "naive" else events
                results.append(_read(kind, kafka.bootstrap, count, list(topics.values())))
    rates = {kind: _rate(results) for kind, results in found.items()}
    peak_mb = max(result["peak_mb"] for result in found["ours"])
    return [
        Row("events, mean bytes each", f"{events:,}, {size / events:.0f}", ""),
        Row("bare consume loop", f"{rates['bare']:,.0f} events/s", ""),
        Row(
            "ingest, Kafka to committed rows",
            f"{rates['ours']:,.0f} events/s",
            f"{rates['ours'] / rates['bare']:.2f} of the bare loop (target 0.33)",
        ),
        Row(
            "poll, fastavro, pandas",
            f"{rates['naive']:,.0f} events/s",
            f"ingest is {rates['ours'] / rates['naive']:.1f}x this (target 8x)",
        ),
        Row("peak resident memory of ingest", f"{peak_mb:.0f} MB", "(target under 400 MB)"),
    ]


def _rate(results: list[dict[str, float]]) -> float:
    return statistics.median(result["records"] / result["seconds"] for result in results)


def _read(kind: str, bootstrap: str, events: int, topics: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="delegraph-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.reader", kind, bootstrap, str(events), folder]
        done = subprocess.run(
            [*command, *topics], check=False, capture_output=True, text=True, timeout=1200
        )
    if done.returncode:
        raise RuntimeError(f"{kind} failed: {done.stderr[-1500:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if result["records"] < events:
        raise RuntimeError(f"{kind} read {result['records']} of {events}: {done.stderr[-500:]}")
    return result
