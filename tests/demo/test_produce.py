import json

import pytest

from pipeline.demo.broker import KEEPS_BYTES, PARTITIONS, embedded_broker
from pipeline.demo.generate import Stream
from pipeline.demo.produce import Outlet, produce, write_files
from pipeline.errors import ConfigError, SourceError
from pipeline.ingest.run import ingest_files
from tests.factories import NOW

STREAM = Stream(1_200, 4, NOW)


def test_slices_sent_to_the_embedded_broker_fit_what_it_keeps():
    with embedded_broker() as bootstrap:
        sent = list(produce(Stream(30_000, 4, NOW), Outlet(bootstrap)))

        assert sent[-1].records == 30_000
        assert max(sent[-1].by_partition.values()) < KEEPS_BYTES
        assert {partition for _, partition in sent[-1].by_partition} == set(range(PARTITIONS))


def test_a_broker_that_is_not_there_is_a_source_error(monkeypatch):
    monkeypatch.setattr("pipeline.demo.produce.METADATA_TIMEOUT_S", 0.3)

    with pytest.raises(SourceError, match="no answer"):
        list(produce(STREAM, Outlet("127.0.0.1:1")))


@pytest.mark.parametrize("kind", ["jsonl", "avro"])
def test_written_files_are_read_back_whole(lake, tmp_path, kind):
    paths = write_files(STREAM, tmp_path / "out", kind)

    report = ingest_files(paths, adapter="native", sink=lake)

    assert (report.records, report.dead_letters) == (STREAM.events, 0)
    truth = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert {story["story"] for story in truth} == {1, 2, 3, 4, 5}


def test_a_folder_with_other_things_is_not_written_to(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(ConfigError, match="not empty"):
        write_files(STREAM, tmp_path, "jsonl")
