"""Spans that real libraries write, as a collector sends them, through a topic to the calls."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipeline.chains import build_chains
from pipeline.config import KafkaConfig
from pipeline.ingest.run import Control, ingest_topics
from pipeline.lake import open_lake
from pipeline.registry import load_registry

# Not imported here: every run of the tests would wait for it.
pytestmark = pytest.mark.skipif(
    find_spec("pydantic_ai") is None, reason="the emitters extra is not installed"
)
EMITTER = Path(__file__).with_name("otel_emitter.py")
TOPIC = "otlp_spans"
CALLS = """
SELECT tool_name, agent_id, parent_agent_id, outcome, observations FROM calls ORDER BY event_time
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Return what each service exported, one protobuf message each."""
    folder = tmp_path_factory.mktemp("otlp")
    done = subprocess.run(
        [sys.executable, str(EMITTER), "agent", str(folder)],
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.otlp"))}


@pytest.mark.parametrize("server_first", [True, False])
def test_agents_client_and_server_tell_one_call_whoever_is_heard_first(
    kafka, exports, lake_path, server_first
):
    topic = f"{TOPIC}-{server_first}"
    kafka.create_topics({topic: 1})
    lake = open_lake(str(lake_path), create=True)
    config = KafkaConfig(kafka.bootstrap, topic, topics={topic: "otel_genai"})
    names = sorted(exports, reverse=server_first)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})

    for name in names:
        producer.produce(topic, exports[name])
        assert producer.flush(30) == 0
        report = ingest_topics(config, lake, control=Control(once=True))
        assert report.dead_letters == 0
        build_chains(lake, load_registry(None), datetime.now(UTC))

    with lake.connect() as con:
        assert con.execute(CALLS).fetchall() == [
            ("ask_helper", "boss", None, "success", 1),
            ("get_weather", "helper", "boss", "success", 4),
        ]
        sources = {source for (source,) in con.execute("SELECT source FROM tool_calls").fetchall()}
        assert sources == {
            "otel.tool.pydantic-ai:desk",
            "otel.mcp_client.fastmcp:desk",
            "otel.mcp_client.mcp-python-sdk:desk",
            "otel.mcp_server.mcp-python-sdk:weather-mcp",
        }
        assert "do-not-store" not in repr(con.execute("FROM tool_calls").fetchall())
