"""CloudTrail records, as AWS wrote them, through a topic with the `cloudtrail` adapter."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipeline.chains import build_chains
from pipeline.config import KafkaConfig
from pipeline.ingest.run import Control, ingest_topics
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.integration.members import stored_count

SAMPLES = Path(__file__).parents[2].parent / "shared" / "data" / "stratus-detonation"
TOPIC = "aws.cloudtrail"


def records(path: Path) -> list[dict]:
    document: list[dict] = json.loads(gzip.decompress(path.read_bytes()))
    return document


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
def test_cloudtrail_records_through_a_topic_give_the_known_chains(kafka, lake_path):
    kafka.create_topics({TOPIC: 3})
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    sent = [record for path in sorted(SAMPLES.glob("*.json.gz")) for record in records(path)]
    for number, record in enumerate(sent):
        producer.produce(TOPIC, json.dumps(record).encode(), partition=number % 3)
    assert producer.flush(30) == 0
    lake = open_lake(str(lake_path), create=True)
    config = KafkaConfig(kafka.bootstrap, "vendor", topics={TOPIC: "cloudtrail"})

    report = ingest_topics(config, lake, control=Control(once=True))
    again = ingest_topics(config, lake, control=Control(once=True))
    build_chains(lake, load_registry(None), datetime.now(UTC))

    assert (report.dead_letters, again.records) == (0, 0)
    with lake.connect() as con:
        calls, issued = con.execute(
            "SELECT (SELECT count(*) FROM tool_calls), (SELECT count(*) FROM token_events)"
        ).fetchone()
        linked, unissued = con.execute(
            """
            SELECT count(*) FILTER (WHERE credential.seen_issued),
                   count(*) FILTER (WHERE calls.status IN ('broken', 'pending'))
            FROM calls INNER JOIN credentials AS credential
              ON calls.credential_key = credential.credential_key
            """
        ).fetchone()
    # A topic may still bring what is missing: until its watermark passes, broken is pending.
    assert (calls, issued, linked, unissued) == (310, 11, 48, 21)
    assert stored_count(lake_path) >= len(sent)
