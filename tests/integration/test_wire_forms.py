"""The three wire forms through a real broker and a real schema registry (Apicurio)."""

from __future__ import annotations

import io
import json

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from pipeline.config import KafkaConfig
from pipeline.demo.encode import Wire
from pipeline.demo.generate import Stream, generate
from pipeline.demo.produce import Outlet, produce
from pipeline.errors import SourceError
from pipeline.events.schema import FAMILIES, avro_schema, avro_text
from pipeline.ingest.run import Control, ingest_topics
from pipeline.lake import open_lake
from tests.factories import NOW
from tests.integration.kafka import free_port
from tests.integration.members import stored_count, topics_of

STREAM = Stream(3_000, 5, NOW)
COUNT_SHOWN = """
SELECT (SELECT count(*) FROM tool_calls) + (SELECT count(*) FROM token_events)
     + (SELECT count(*) FROM secret_events)
"""


def register(url: str, name: str, schema: str) -> int:
    with SchemaRegistryClient({"url": url}) as client:
        return client.register_schema(name, Schema(schema, "AVRO"))


def ingest(kafka, topics, lake_path, url: str):
    config = KafkaConfig(kafka.bootstrap, "forms", url, dict.fromkeys(topics, "native"))
    lake = open_lake(str(lake_path), create=True)
    return lake, ingest_topics(config, lake, control=Control(once=True))


def distinct_events(stream: Stream) -> int:
    """Return how many events a stream has without the records that come twice."""
    return len(
        {
            (arrivals.family, event_id)
            for arrived in generate(stream)
            for arrivals in arrived
            for event_id in arrivals.batch["event_id"].to_pylist()
        }
    )


def test_the_same_events_in_three_forms_are_shown_once(kafka, registry_url, lake_path):
    topics = topics_of("forms")
    kafka.create_topics(dict.fromkeys(topics.values(), 2))
    ids = {f: register(registry_url, f"{topics[f]}-value", avro_text(f)) for f in FAMILIES}
    for wire in (Wire(json_share=0.0), Wire(json_share=1.0), Wire(ids, json_share=0.2)):
        list(produce(STREAM, Outlet(kafka.bootstrap, wire, topics)))

    lake, report = ingest(kafka, topics.values(), lake_path, registry_url)
    lake.mark_events()

    assert report.dead_letters == 0
    assert stored_count(lake_path) == report.records == 3 * STREAM.events
    with lake.connect() as con:
        assert con.execute(COUNT_SHOWN).fetchone() == (distinct_events(STREAM),)


def framed(schema_id: int, schema: dict, event: dict) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), event)
    return b"\x00" + schema_id.to_bytes(4) + body.getvalue()


def test_older_and_newer_writers_are_read_by_the_registry_s_word(kafka, registry_url, lake_path):
    topic = "writers.agent.tool_calls"
    kafka.create_topics({topic: 1})
    ours = avro_schema("tool_call")
    older = ours | {"fields": [f for f in ours["fields"] if f["name"] != "tags"]}
    extra = {"name": "mood", "type": ["null", "string"], "default": None}
    newer = ours | {"fields": [*ours["fields"], extra]}
    event = {
        "source": "urn:test",
        "event_time": NOW,
        "observer": "gateway",
        "tool_name": "crm.lookup",
        "outcome": "success",
        "agent_id": "a",
        "mood": "sunny",
    }
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for name, schema in (("older", older), ("newer", newer)):
        number = register(registry_url, f"{name}-value", json.dumps(schema))
        producer.produce(topic, framed(number, schema, event | {"event_id": name}))
    producer.produce(topic, framed(999_999, ours, event | {"event_id": "unregistered"}))
    assert producer.flush(30) == 0

    lake, report = ingest(kafka, [topic], lake_path, registry_url)

    assert report.dead_letters == 1
    with lake.connect() as con:
        rows = con.execute(
            "SELECT event_id, tags, ext['mood'] FROM tool_calls ORDER BY 1"
        ).fetchall()
    assert rows == [("newer", [], "sunny"), ("older", [], None)]


def test_a_registry_that_is_down_loses_nothing(kafka, registry_url, lake_path):
    topic = "down.agent.tool_calls"
    kafka.create_topics({topic: 1})
    ours = avro_schema("tool_call")
    number = register(registry_url, f"{topic}-value", avro_text("tool_call"))
    event = {
        "event_id": "waits",
        "source": "urn:test",
        "event_time": NOW,
        "observer": "gateway",
        "tool_name": "crm.lookup",
        "outcome": "success",
        "agent_id": "a",
    }
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    producer.produce(topic, framed(number, ours, event))
    assert producer.flush(30) == 0

    with pytest.raises(SourceError, match="registry"):
        ingest(kafka, [topic], lake_path, f"http://127.0.0.1:{free_port()}")

    assert stored_count(lake_path) == 0
    _, report = ingest(kafka, [topic], lake_path, registry_url)
    assert (report.records, report.dead_letters) == (1, 0)
