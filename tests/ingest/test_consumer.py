"""The loop over librdkafka's mock cluster: real protocol, one process."""

import dataclasses
import json
import logging
import threading
import time
from itertools import count

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Assignment

from pipeline.config import IngestConfig, KafkaConfig, Secret
from pipeline.errors import SourceError
from pipeline.ingest.batch import TopicPartition
from pipeline.ingest.run import Control, ingest_topics
from pipeline.lake import open_lake
from tests.factories import token_event, tool_call

CALLS, TOKENS = "agent.tool_calls", "agent.token_events"
DEADLINE_S = 60
_serial = count()


class Broker:
    """A mock cluster, which lives as long as its producer."""

    def __init__(self):
        quiet = logging.getLogger("mock cluster")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        self._producer = Producer(
            {"bootstrap.servers": "127.0.0.1:9", "test.mock.num.brokers": 1}, logger=quiet
        )
        [broker] = self._producer.list_topics(timeout=10).brokers.values()
        self.address = f"127.0.0.1:{broker.port}"

    def send(self, topic, values):
        for number, value in enumerate(values):
            self._producer.produce(topic, value, partition=number % 4)
        self._producer.flush(10)

    def config(self, *topics, adapter="native"):
        # The mock cluster makes a group wait for its session time-out.
        quick = {"session.timeout.ms": Secret("6000"), "heartbeat.interval.ms": Secret("300")}
        names = dict.fromkeys(topics or (CALLS,), adapter)
        return KafkaConfig(bootstrap=self.address, group="g", topics=names, security=quick)


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def lake(tmp_path):
    return open_lake(str(tmp_path / "lake"), create=True)


def calls(number):
    return [json.dumps(tool_call(event_id=f"c{next(_serial)}")).encode() for _ in range(number)]


def once(kafka, lake):
    return ingest_topics(kafka, lake, control=Control(once=True))


def offsets(lake, table="tool_calls"):
    query = f"SELECT kafka_partition, kafka_offset FROM {table} ORDER BY ALL"  # fixed names
    return lake.connect(comments=False).execute(query).fetchall()


def expected(number):
    return sorted((n % 4, n // 4) for n in range(number))


def test_reading_once_takes_all_partitions_of_all_topics_to_their_end(broker, lake):
    broker.send(CALLS, calls(4001))
    broker.send(TOKENS, [json.dumps(token_event()).encode()])

    report = once(broker.config(CALLS, TOKENS), lake)

    assert report.rows == {"tool_calls": 4001, "token_events": 1, "dead_letters": 0}
    assert offsets(lake) == expected(4001)
    assert set(report.lag.values()) == {0}


def test_reading_once_again_takes_only_what_is_new(broker, lake):
    broker.send(CALLS, calls(8))
    once(broker.config(), lake)
    assert once(broker.config(), lake).records == 0
    broker.send(CALLS, calls(4))

    report = once(broker.config(), lake)

    assert report.records == 4
    assert offsets(lake) == expected(12)


def test_poison_in_a_topic_is_a_dead_letter_at_its_own_offset(broker, lake):
    values = calls(10)
    values[5] = b"\x00\x00\x00\x00\x07poison"
    broker.send(CALLS, values)

    once(broker.config(), lake)

    assert offsets(lake, "dead_letters") == [(1, 1)]
    assert sorted([*offsets(lake), (1, 1)]) == expected(10)


def test_a_topic_read_as_auto_may_mix_sources_and_an_instance_names_its_vault(broker, lake):
    looked_up = {
        "time": "2026-01-02T03:04:05Z",
        "type": "request",
        "request": {"id": "r-1", "path": "kv/data/db", "operation": "read"},
    }
    broker.send("mixed", [*calls(2), json.dumps(looked_up).encode(), b'{"what": "ever"}'])
    kafka = dataclasses.replace(broker.config("mixed", adapter="auto"), instances={"mixed": "v7"})

    report = once(kafka, lake)

    query = "SELECT adapter, source FROM tool_calls ORDER BY ALL"
    found = lake.connect(comments=False).execute(query).fetchall()
    assert [adapter for adapter, _ in found] == ["native", "native", "vault_audit"]
    assert found[2] == ("vault_audit", "vault.audit:v7")
    assert report.dead_letters == 1
    assert report.tally.taken.total() == 4


def test_an_unknown_adapter_of_a_topic_is_told_before_anything_is_read(lake):
    with pytest.raises(SourceError, match="no adapter 'splunk'"):
        once(KafkaConfig(bootstrap="127.0.0.1:9", topics={"t": "splunk"}), lake)


def test_kafka_learns_the_stored_offsets_as_a_hint(broker, lake):
    broker.send(CALLS, calls(6))

    once(broker.config(), lake)

    watcher = Consumer({"bootstrap.servers": broker.address, "group.id": "g"})
    found = watcher.committed([Assignment(CALLS, part) for part in range(4)], timeout=10)
    watcher.close()
    assert [item.offset for item in found] == [2, 2, 1, 1]


def test_a_topic_that_does_not_exist_is_an_error_that_names_it(broker, lake):
    broker.send(CALLS, calls(1))

    with pytest.raises(SourceError, match=r"no topic agent\.nothing on 127\.0\.0\.1"):
        once(broker.config(CALLS, "agent.nothing"), lake)


def test_a_broker_that_does_not_answer_is_an_error_when_reading_once(lake, monkeypatch):
    monkeypatch.setattr("pipeline.ingest.consumer.METADATA_TIMEOUT_S", 0.5)

    with pytest.raises(SourceError, match=r"no answer from Kafka at 127\.0\.0\.1:9"):
        once(KafkaConfig(bootstrap="127.0.0.1:9"), lake)


def test_without_a_broker_a_continuous_run_waits_until_it_is_stopped(lake, monkeypatch):
    monkeypatch.setattr("pipeline.ingest.consumer.METADATA_TIMEOUT_S", 0.2)
    stop = threading.Event()
    timer = threading.Timer(1.0, stop.set)
    timer.start()

    report = ingest_topics(KafkaConfig(bootstrap="127.0.0.1:9"), lake, control=Control(stop=stop))

    assert (report.records, report.stopped) == (0, True)


class Member(threading.Thread):
    """One process of a group, as a thread with a lake handle of its own."""

    def __init__(self, broker, path):
        super().__init__()
        self.stop, self.records, self.error = threading.Event(), 0, None
        self._broker, self._path = broker, path
        self.start()

    def run(self):
        control = Control(stop=self.stop, on_progress=self._progress)
        limits = IngestConfig(batch_rows=50, batch_age_s=0.2)
        try:
            ingest_topics(
                self._broker.config(), open_lake(self._path), limits=limits, control=control
            )
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.error = error

    def _progress(self, report):
        self.records = report.records


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.2)


def test_members_joining_and_leaving_keep_each_offset_once(broker, tmp_path):
    path = str(tmp_path / "lake")
    lake = open_lake(path, create=True)
    broker.send(CALLS, calls(400))
    first = Member(broker, path)
    wait_for(lambda: first.records == 400)
    second = Member(broker, path)
    sent = 400

    def both_read():
        nonlocal sent
        broker.send(CALLS, calls(40))
        sent += 40
        return second.records > 0

    wait_for(both_read)
    first.stop.set()
    first.join(DEADLINE_S)
    broker.send(CALLS, calls(40))
    sent += 40
    wait_for(lambda: first.records + second.records == sent)
    second.stop.set()
    second.join(DEADLINE_S)

    assert (first.error, second.error) == (None, None)
    assert offsets(lake) == expected(sent)
    assert lake.offsets("dead_letters", [TopicPartition(CALLS, 0)]) == {
        TopicPartition(CALLS, 0): sent // 4 - 1
    }
