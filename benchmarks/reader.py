"""One way of reading a topic set, in a process of its own: prints what it took as JSON.

python -m benchmarks.reader bare|ours|naive BOOTSTRAP EVENTS FOLDER TOPIC...
"""

from __future__ import annotations

import gc
import io
import json
import resource
import sys
import time
from pathlib import Path

import fastavro
import pandas as pd
from confluent_kafka import Consumer, TopicPartition

from pipeline.config import KafkaConfig
from pipeline.events.schema import avro_schema
from pipeline.ingest.run import Control, ingest_topics
from pipeline.lake import open_lake

SINGLE_OBJECT_HEAD = 10


def consumer(bootstrap: str, topics: list[str]) -> Consumer:
    """Return a client at the beginning of every partition, tuned as ours is."""
    client = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "queued.max.messages.kbytes": 32 * 1024,
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 100,
        }
    )
    metadata = client.list_topics(timeout=10).topics
    client.assign([TopicPartition(t, p, 0) for t in topics for p in metadata[t].partitions])
    return client


def bare(bootstrap: str, events: int, folder: Path, topics: list[str]) -> int:
    """Take the values and throw them away: the client's ceiling."""
    del folder
    client, read = consumer(bootstrap, topics), 0
    gc.disable()
    while read < events:
        values = [message.value() for message in client.consume(4_000, 1.0)]
        read += len(values)
    client.close()
    return read


def ours(bootstrap: str, events: int, folder: Path, topics: list[str]) -> int:
    """Read everything that is there into committed Delta tables."""
    del events
    lake = open_lake(str(folder / "lake"), create=True)
    config = KafkaConfig(bootstrap, "bench", topics=dict.fromkeys(topics, "native"))
    return ingest_topics(config, lake, control=Control(once=True)).records


def naive(bootstrap: str, events: int, folder: Path, topics: list[str]) -> int:
    """Poll, decode each record to a dictionary, write a DataFrame now and then."""
    client, rows, read = consumer(bootstrap, topics[:1]), [], 0
    schema = fastavro.parse_schema(avro_schema("tool_call"))
    while read < events:
        message = client.poll(1.0)
        if message is None or message.error():
            continue
        body = io.BytesIO(message.value()[SINGLE_OBJECT_HEAD:])
        row = fastavro.schemaless_reader(body, schema)
        del row["ext"]  # an empty map is nothing that pandas can write
        rows.append(row)
        read += 1
        if len(rows) == 10_000 or read == events:
            pd.DataFrame(rows).to_parquet(folder / f"{read}.parquet")
            rows.clear()
    client.close()
    return read


def main() -> None:
    """Run one way and print records, seconds and peak memory."""
    kind, bootstrap, events, folder, *topics = sys.argv[1:]
    way = {"bare": bare, "ours": ours, "naive": naive}[kind]
    began = time.monotonic()
    read = way(bootstrap, int(events), Path(folder), topics)
    took_s = time.monotonic() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"records": read, "seconds": took_s, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
