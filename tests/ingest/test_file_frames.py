"""Files of exports in bytes, and lines that stand behind a prefix."""

import gzip

import pyarrow as pa
import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from pipeline.ingest.file_records import Faulty, read_records
from pipeline.ingest.files import wrapping_of
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.run import ingest_files
from pipeline.lake import open_lake
from tests.ingest.otlp import export, span

JSON = [export(span(n, parentSpanId="")) for n in (1, 2)]


def as_protobuf(exported):
    return Parse(exported, TracesData()).SerializeToString()


def packed(raw):
    with pa.BufferOutputStream() as sink:
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(raw)
        return sink.getvalue().to_pybytes()


def framed(*exports):
    return b"".join(len(one).to_bytes(4) + one for one in exports)


def read(tmp_path, content, name="spans"):
    path = tmp_path / name
    path.write_bytes(content)
    return list(read_records(path, wrapping_of(AUTO)))


PROTOBUF = [as_protobuf(one) for one in JSON]


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (PROTOBUF[0], PROTOBUF[:1]),
        (gzip.compress(PROTOBUF[0]), PROTOBUF[:1]),
        (framed(*PROTOBUF), PROTOBUF),
        (framed(*map(packed, PROTOBUF)), PROTOBUF),
        (framed(*map(packed, JSON)), JSON),
        (packed(b"\n".join(JSON)), JSON),
    ],
    ids=["alone", "gzip", "framed", "framed and packed", "packed JSON", "lines"],
)
def test_exports_are_read_however_a_collector_files_them(tmp_path, content, records):
    assert read(tmp_path, content) == records


@pytest.mark.parametrize(
    ("content", "whole", "reason"),
    [
        (framed(*PROTOBUF)[:-3], 1, "the file ends within an export"),
        (framed(PROTOBUF[0]) + b"\xff" * 9, 1, "a length is given that no export has"),
        (framed(PROTOBUF[0], packed(JSON[0])[:-9]), 1, "the zstd data is damaged or ends early"),
        (packed(b"\n".join(JSON))[:-20], 0, "the zstd data is damaged or ends early"),
    ],
)
def test_of_a_file_that_is_cut_the_whole_exports_are_kept(tmp_path, content, whole, reason):
    found = read(tmp_path, content)

    assert [one for one in found if isinstance(one, bytes)] == PROTOBUF[:whole]
    assert [one.reason for one in found if isinstance(one, Faulty)] == [reason]


@pytest.mark.parametrize("prefix", ["[pod/gateway/audit] ", "2026-11-26T08:00:02.1Z stdout F "])
@pytest.mark.parametrize("count", [1, 2])
def test_lines_behind_a_prefix_are_lines_whatever_the_file_s_name(tmp_path, prefix, count):
    lines = [prefix.encode() + one for one in JSON[:count]]

    assert read(tmp_path, b"\n".join(lines), "gateway.log") == lines


def test_an_array_that_opens_a_line_with_its_first_record_is_no_log(tmp_path):
    assert read(tmp_path, b'[{"n":1}\n,{"n":2}]') == [b'{"n":1}', b'{"n":2}']


def test_an_export_that_is_cut_keeps_no_prompt_in_its_dead_letter(tmp_path):
    secret = {"gen_ai.prompt": "do-not-store", "gen_ai.agent.name": "planner"}
    whole = export(span(1, attributes=secret, parentSpanId=""))
    cut = (whole[: whole.index(b"do-not-store") + 12], as_protobuf(whole)[:-30])
    lake = open_lake(str(tmp_path / "lake"), create=True)
    paths = [tmp_path / "a.jsonl", tmp_path / "b.otlp", tmp_path / "c.bin"]
    for path, content in zip(paths, (*cut, framed(as_protobuf(whole))[:-30]), strict=True):
        path.write_bytes(content)

    report = ingest_files(paths, adapter="auto", sink=lake)

    letters = lake.connect().execute("SELECT raw FROM dead_letters").fetchall()
    assert report.records == len(letters) == len(paths)
    assert b"do-not" not in repr(letters).encode()
