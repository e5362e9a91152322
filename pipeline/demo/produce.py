"""The generated stream to a broker or to files.

Every record of one task goes to one partition of its topic.  A record counts as
produced when the broker has acknowledged it.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from confluent_kafka import KafkaError, Producer

from pipeline.demo.broker import quiet_logger
from pipeline.demo.encode import TOPICS, Wire, avro_bodies, encode, json_lines
from pipeline.demo.generate import Arrivals, Stream, generate
from pipeline.errors import ConfigError, SourceError
from pipeline.events.schema import FAMILIES, TABLES, avro_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FLUSH_TIMEOUT_S = 60.0
METADATA_TIMEOUT_S = 10.0


@dataclass
class Sent:
    """What has been produced so far: records, bytes, and bytes by topic and partition."""

    records: int = 0
    bytes: int = 0
    by_partition: dict[tuple[str, int], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outlet:
    """A broker to write to."""

    bootstrap: str
    wire: Wire = field(default_factory=Wire)
    topics: Mapping[str, str] = field(default_factory=lambda: TOPICS)
    """Family to topic."""


def produce(stream: Stream, outlet: Outlet) -> Iterator[Sent]:
    """Produce the stream slice by slice; yield the running total after each slice.

    Raises:
        SourceError: the broker does not answer, or refused a record.
    """
    failed: list[KafkaError] = []
    producer = _producer(outlet.bootstrap, failed)
    partitions = {topic: _partitions(producer, topic) for topic in outlet.topics.values()}
    sent = Sent()
    for arrived in generate(stream):
        sent.by_partition.clear()
        for arrivals in arrived:
            records = encode(arrivals, outlet.wire, sent.records)
            topic = outlet.topics[arrivals.family]
            _send(producer, topic, records, arrivals.key % partitions[topic], sent)
        if producer.flush(FLUSH_TIMEOUT_S) or failed:
            why = failed[0].str() if failed else f"no answer within {FLUSH_TIMEOUT_S:.0f} s"
            raise SourceError(f"Kafka at {outlet.bootstrap} did not take all records: {why}")
        yield sent


def _producer(bootstrap: str, failed: list[KafkaError]) -> Any:
    def delivered(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failed.append(error)

    settings = {
        "bootstrap.servers": bootstrap,
        "linger.ms": 20,
        "enable.idempotence": False,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
        "delivery.report.only.error": True,
        "on_delivery": delivered,
        "message.timeout.ms": int(FLUSH_TIMEOUT_S * 1000),
    }
    return Producer(settings, logger=quiet_logger())


def _partitions(producer: Any, topic: str) -> int:
    try:
        found = producer.list_topics(topic, timeout=METADATA_TIMEOUT_S).topics[topic]
    except Exception as error:
        raise SourceError(f"no answer from Kafka for topic {topic}; is it running?") from error
    if not found.partitions:
        raise SourceError(f"topic {topic} does not exist at the broker; create it first")
    return len(found.partitions)


def _send(
    producer: Any, topic: str, records: pa.Array, place: np.ndarray[Any, Any], sent: Sent
) -> None:
    for partition in np.unique(place):
        mine = records.take(pa.array(np.flatnonzero(place == partition)))
        messages = [{"value": value} for value in mine.to_pylist()]
        queued = producer.produce_batch(topic, messages, partition=int(partition))
        if queued != len(messages):
            raise SourceError(f"topic {topic}: the client's queue is full")
        size = mine.nbytes
        sent.records += len(messages)
        sent.bytes += size
        key = (topic, int(partition))
        sent.by_partition[key] = sent.by_partition.get(key, 0) + size


def write_files(stream: Stream, folder: Path, kind: str) -> list[Path]:
    """Write the stream as one `.jsonl` file, or one Avro container per family; and the truth.

    Raises:
        ConfigError: the folder exists and is not empty, or the kind is unknown.
    """
    if kind not in WRITERS:
        raise ConfigError(f"cannot write {kind!r} files; known are {', '.join(WRITERS)}")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "truth.json").write_text(json.dumps(truth_of(stream), indent=1), encoding="utf-8")
    return WRITERS[kind](generate(stream), folder)


def truth_of(stream: Stream) -> list[dict[str, Any]]:
    """Return the planted stories as plain data: what must fire, on what, from which events."""
    if stream.places:
        return [planting.as_row() for planting in stream.corpus().plantings]
    return [
        {
            "story": planted.number,
            "title": planted.title,
            "twin": planted.twin,
            "entity": planted.entity,
            "rules": list(planted.rules),
            "may_also_fire": list(planted.also),
            "event_ids": sorted(planted.event_ids),
        }
        for planted in stream.truth()
    ]


def _write_jsonl(slices: Iterable[list[Arrivals]], folder: Path) -> list[Path]:
    path = folder / "events.jsonl"
    with path.open("w", encoding="utf-8") as output:
        for arrived in slices:
            for arrivals in arrived:
                if arrivals.batch.num_rows:
                    lines = json_lines(arrivals.family, arrivals.batch).to_pylist()
                    output.write("\n".join(lines) + "\n")
    return [path]


def _write_avro(slices: Iterable[list[Arrivals]], folder: Path) -> list[Path]:
    paths = {family: folder / f"{TABLES[family]}.avro" for family in FAMILIES}
    syncs = {family: hashlib.md5(family.encode()).digest() for family in FAMILIES}  # noqa: S324
    with ExitStack() as stack:
        outputs = {family: stack.enter_context(path.open("wb")) for family, path in paths.items()}
        for family, output in outputs.items():
            _write_container_head(output, avro_text(family), syncs[family])
        for arrived in slices:
            for arrivals in arrived:
                if arrivals.batch.num_rows:
                    body = b"".join(avro_bodies(arrivals.family, arrivals.batch).to_pylist())
                    head = _long(arrivals.batch.num_rows) + _long(len(body))
                    outputs[arrivals.family].write(head + body + syncs[arrivals.family])
    return list(paths.values())


def _write_container_head(output: IO[bytes], schema: str, sync: bytes) -> None:
    pairs = {"avro.schema": schema.encode(), "avro.codec": b"null"}
    output.write(b"Obj\x01" + _long(len(pairs)))
    for key, value in pairs.items():
        output.write(_long(len(key)) + key.encode() + _long(len(value)) + value)
    output.write(_long(0) + sync)


def _long(number: int) -> bytes:
    """Return an Avro long of a number from 0: zig-zag, then seven bits a byte."""
    left, out = number << 1, bytearray()
    while left > 0x7F:  # noqa: PLR2004 - seven bits
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


WRITERS = {"jsonl": _write_jsonl, "avro": _write_avro}
