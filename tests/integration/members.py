"""Consumer processes that come and go, and what a lake must hold afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, TopicPartition
from deltalake import DeltaTable

from pipeline.demo.encode import TOPICS
from pipeline.demo.produce import Outlet, produce
from pipeline.lake import open_lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline.demo.generate import Stream
    from tests.integration.kafka import KafkaNode

TABLES = ("tool_calls", "token_events", "secret_events", "dead_letters")
COMMAND = (sys.executable, "-m", "pipeline")
PLACE = ("kafka_topic", "kafka_partition", "kafka_offset")
# A killed member holds its partitions until its session ends: shorter than the default 45 s.
SESSION = {"session.timeout.ms": "2000", "heartbeat.interval.ms": "500"}


@dataclass(frozen=True)
class Road:
    """A topic set of one node and the lake that it should end in."""

    kafka: KafkaNode
    topics: Mapping[str, str]
    """Topic to adapter."""
    lake: Path
    group: str = "delegraph"
    batch_rows: int = 20_000
    batch_age_s: float = 1.0

    def config_text(self) -> str:
        """Return the configuration that a member reads."""
        topics = "\n".join(f'"{topic}" = "{adapter}"' for topic, adapter in self.topics.items())
        session = "\n".join(f'"{key}" = "{value}"' for key, value in SESSION.items())
        return f"""
[lake]
path = "{self.lake}"
[kafka]
bootstrap = "{self.kafka.bootstrap}"
group = "{self.group}"
[kafka.topics]
{topics}
[kafka.security]
{session}
[ingest]
batch_rows = {self.batch_rows}
batch_age_s = {self.batch_age_s}
"""

    def highs(self) -> dict[tuple[str, int], int]:
        """Return the end of every partition, by the broker's word."""
        client = Consumer(
            {"bootstrap.servers": self.kafka.bootstrap, "group.id": "watermarks", "log_level": 0}
        )
        found = {}
        for topic in self.topics:
            for partition in client.list_topics(topic, timeout=10).topics[topic].partitions:
                place = TopicPartition(topic, partition)
                found[topic, partition] = client.get_watermark_offsets(place, timeout=10)[1]
        client.close()
        return found

    def has_all(self) -> bool:
        """Return whether the lake holds as many records as the broker; says nothing of which."""
        return stored_count(self.lake) >= sum(self.highs().values())


@dataclass
class Members:
    """Consumer processes of one road; all end with the block that `members` opens."""

    road: Road
    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0
    killed: int = 0

    def start(self) -> None:
        """Start one more `delegraph ingest`."""
        config = self.folder / "delegraph.toml"
        config.write_text(self.road.config_text(), encoding="utf-8")
        log = self.folder / f"member-{self.started}.log"
        command = [*COMMAND, "ingest", "--config", str(config)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, env=os.environ
            )
        self.running.append(process)
        self.started += 1

    def leave(self) -> None:
        """Ask the oldest member to leave, and wait until it has stored what it held."""
        process = self.running.pop(0)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        assert code in {0, 130, 143}, f"a member that was asked to leave ended with {code}"

    def kill(self, which: int = 0) -> None:
        """Kill a member as a power cut would."""
        process = self.running.pop(which)
        assert process.poll() is None, f"a member ended by itself: {self.logs()}"
        process.kill()
        process.wait(60)
        self.killed += 1

    def logs(self) -> str:
        """Return the end of every member's output."""
        texts = [path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.log")]
        return "\n".join(texts)


@contextmanager
def members(road: Road, folder: Path) -> Iterator[Members]:
    """Give a set of members; whatever still runs is killed on leaving."""
    folder.mkdir(parents=True, exist_ok=True)
    group = Members(road, folder)
    try:
        yield group
    finally:
        for process in group.running:
            process.kill()
            process.wait(60)


@dataclass
class Producing(threading.Thread):
    """Produces a stream in the background, at most `rate` records a second."""

    stream: Stream
    outlet: Outlet
    rate: float = float("inf")
    records: int = 0
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        """Produce slice by slice, waiting where the broker's share of time is used up."""
        began = time.monotonic()
        try:
            for sent in produce(self.stream, self.outlet):
                self.records = sent.records
                time.sleep(max(0.0, began + sent.records / self.rate - time.monotonic()))
        except BaseException as error:  # noqa: BLE001 - the test raises it again
            self.failure = error

    __hash__ = threading.Thread.__hash__


def wait_for(what: str, is_so: Callable[[], bool], timeout_s: float, group: Members) -> None:
    """Wait for the outside world, looking every 0.3 s; say what did not happen."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}\n{group.logs()}"
        for process in group.running:
            assert process.poll() is None, f"a member ended by itself\n{group.logs()}"
        time.sleep(0.3)


def raw_tables(lake: Path) -> Iterator[DeltaTable]:
    """Give the raw tables that exist, below the views: every stored row, repeats included."""
    if (lake / "delegraph-lake.json").exists():
        folders = open_lake(str(lake)).folders()
        for table in TABLES:
            if (Path(folders[table].uri) / "_delta_log").is_dir():
                yield DeltaTable(folders[table].uri)


def stored_count(lake: Path) -> int:
    """Return how many records the lake holds, as rows or as dead letters."""
    return sum(table.count() for table in raw_tables(lake))


def stored_offsets(lake: Path) -> dict[tuple[str, int], list[int]]:
    """Return every stored offset of each partition, repeats included."""
    found: dict[tuple[str, int], list[int]] = {}
    for table in raw_tables(lake):
        rows = table.to_pyarrow_table(columns=list(PLACE))
        groups = rows.group_by(list(PLACE[:2])).aggregate([(PLACE[2], "list")])
        for row in groups.to_pylist():
            place = row["kafka_topic"], row["kafka_partition"]
            found.setdefault(place, []).extend(row["kafka_offset_list"])
    return found


def lost_and_doubled(lake: Path, highs: Mapping[tuple[str, int], int]) -> tuple[int, int]:
    """Return how many records of the broker the lake lacks and how many it has too often."""
    stored = stored_offsets(lake)
    lost = doubled = 0
    for place, high in highs.items():
        offsets = pa.array(stored.get(place, []), type=pa.int64())
        distinct = pc.count_distinct(offsets).as_py()
        doubled += len(offsets) - distinct
        inside = pc.sum(pc.and_(pc.greater_equal(offsets, 0), pc.less(offsets, high))).as_py() or 0
        assert inside == len(offsets), f"{place}: offsets that the broker does not have"
        lost += high - distinct
    return lost, doubled


def topics_of(name: str) -> dict[str, str]:
    """Return family to topic for one test, so that tests share a broker and nothing else."""
    return {family: f"{name}.{topic}" for family, topic in TOPICS.items()}


def dice(seed: int) -> random.Random:
    """Return dice for kill times; the seed is printed by the test that uses it."""
    return random.Random(seed)
