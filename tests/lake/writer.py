"""A consumer of an endless topic, to be killed: appends batches from where the lake stands.

Arguments: lake, partition, rows a batch.  Says the last offset after each commit.
"""

import sys

from pipeline.ingest.batch import TopicPartition
from pipeline.lake import open_lake
from tests.factories import contract_table, tool_call


def main(path: str, partition: int, size: int) -> None:
    lake = open_lake(path)
    place = TopicPartition("endless", partition)
    last = lake.offsets("tool_calls", [place])[place]
    while True:
        rows = [
            tool_call(
                event_id=f"{partition}-{offset}",
                kafka_topic=place.topic,
                kafka_partition=partition,
                kafka_offset=offset,
            )
            for offset in range(last + 1, last + 1 + size)
        ]
        last += size
        lake.append("tool_calls", contract_table("tool_call", rows), {place: last})
        print(last, flush=True)  # noqa: T201


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
