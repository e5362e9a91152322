"""Writers that are killed, and readers that look on."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from pipeline.lake import open_lake

ROOT = Path(__file__).parents[2]
WRITER = [sys.executable, str(Path(__file__).with_name("writer.py"))]


def spawn(lake, partition, size):
    return subprocess.Popen(
        [*WRITER, lake.uri, str(partition), str(size)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def held(lake):
    with lake.connect(comments=False) as con:
        return con.execute(
            "SELECT kafka_partition, count(*), count(DISTINCT kafka_offset), max(kafka_offset) + 1"
            " FROM internal.tool_calls GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def test_killed_writer_loses_nothing_and_doubles_nothing(lake):
    dice = random.Random(7)
    acknowledged = -1
    for _ in range(10):
        writer = spawn(lake, 0, 50)
        for _ in range(dice.randint(1, 6)):
            acknowledged = max(acknowledged, int(writer.stdout.readline()))
        # Somewhere inside the next batch: building, writing, committing or syncing.
        deadline = time.monotonic() + dice.uniform(0, 0.08)
        while time.monotonic() < deadline:
            pass
        writer.kill()
        writer.wait()
        for line in writer.stdout:
            if line.endswith("\n"):
                acknowledged = max(acknowledged, int(line))
        writer.stdout.close()

        ((_, rows, distinct, end),) = held(lake)
        assert rows == distinct == end
        assert end > acknowledged
    assert lake.verify().problems == []


def test_readers_see_whole_batches_while_writers_and_compaction_run(lake):
    writers = [spawn(lake, partition, 10) for partition in (0, 1)]
    stop = threading.Event()

    def compact():
        compacting = open_lake(lake.uri)
        while not stop.is_set():
            compacting.compact()

    compactor = threading.Thread(target=compact)
    compactor.start()
    seen = []
    end = time.monotonic() + 5
    while time.monotonic() < end:
        seen += held(lake)
    stop.set()
    compactor.join()
    for writer in writers:
        writer.kill()
        writer.communicate()

    seen += held(lake)
    assert {partition for partition, *_ in seen} == {0, 1}
    assert [row for row in seen if not row[1] == row[2] == row[3] or row[1] % 10] == []
