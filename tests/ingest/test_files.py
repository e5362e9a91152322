"""What a file may hold, and what is taken of a damaged one."""

import gzip
import hashlib
import io
import json

import fastavro
import pytest

from pipeline.errors import SourceError
from pipeline.events.schema import avro_schema
from pipeline.ingest.file_records import Faulty, read_records
from pipeline.ingest.run import ingest_files
from pipeline.lake import open_lake
from tests.factories import NOW, token_event, tool_call

RECORDS = [{"n": 1}, {"n": 2}, {"n": 3}]
LINES = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)
ARRAY = json.dumps(RECORDS).encode()
PRETTY = json.dumps(RECORDS, indent=2).encode()
WRAPPED = json.dumps({"Records": RECORDS}, indent=1).encode()


def read(tmp_path, name, content, wrapper="Records"):
    path = tmp_path / name
    path.write_bytes(content)
    return [
        item if isinstance(item, Faulty) else json.loads(item)
        for item in read_records(path, wrapper)
    ]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.jsonl", LINES),
        ("lines.ndjson", LINES.replace(b"\n", b"\r\n\n")),
        ("lines.json", LINES),
        ("lines_without_a_last_newline.log", LINES.rstrip()),
        ("array.json", ARRAY),
        ("pretty.json", b"\xef\xbb\xbf" + PRETTY),
        ("delivery.json", WRAPPED),
    ],
)
def test_every_form_of_json_file_gives_its_records(tmp_path, name, content, packed):
    found = read(tmp_path, name, gzip.compress(content) if packed else content)

    assert found == RECORDS


def test_one_pretty_object_is_one_record(tmp_path):
    assert read(tmp_path, "one.json", b'{\n "n": 1\n}\n') == [{"n": 1}]


def test_objects_printed_one_after_the_other_are_records_up_to_a_fault(tmp_path):
    printed = b"\n".join(json.dumps(record, indent=4).encode() for record in RECORDS)

    assert read(tmp_path, "printed.json", printed + b"\n") == RECORDS
    *whole, rest = read(tmp_path, "cut.json", printed[:-4])
    assert (whole, rest.stage) == (RECORDS[:2], "decode")
    assert rest.raw == b'{\n    "n":'


def test_a_number_of_128_bits_in_an_array_keeps_all_its_digits(tmp_path):
    path = tmp_path / "spans.json"
    path.write_bytes(b'{"spans": [{"id": 340282366920938463463374607431768211455}]}')

    (record,) = read_records(path, "spans")

    assert record == b'{"id":340282366920938463463374607431768211455}'


def test_the_wrapper_of_a_vendor_means_nothing_to_another_adapter(tmp_path):
    assert read(tmp_path, "x.json", WRAPPED, wrapper=None) == [{"Records": RECORDS}]


def test_an_empty_file_or_array_has_no_records(tmp_path):
    assert read(tmp_path, "empty.json", b"") == []
    assert read(tmp_path, "blank.jsonl", b"\n \n") == []
    assert read(tmp_path, "none.json", b"[]") == []
    assert read(tmp_path, "none.json.gz", gzip.compress(b"")) == []


@pytest.mark.parametrize("content", [LINES, ARRAY, PRETTY, WRAPPED])
def test_of_a_cut_gzip_the_readable_records_are_kept_and_the_rest_is_one_fault(tmp_path, content):
    noise = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(250))
    whole = content + b' {"n": "' + noise.encode()
    cut = gzip.compress(whole)[:-200]

    found = read(tmp_path, "cut.json.gz", cut)

    assert found[:3] == RECORDS
    assert [type(item) for item in found[3:]].count(Faulty) == 1
    assert "gzip data ends early" in found[-1].reason


def test_of_a_broken_array_the_records_before_the_fault_are_kept(tmp_path):
    found = read(tmp_path, "broken.json", b'[{"n": 1}, {"n": 2}, {"n" 3}, {"n": 4}]')

    assert found[:2] == RECORDS[:2]
    assert found[2].stage == "decode"
    assert found[2].raw == b'{"n" 3}, {"n": 4}]'


def test_one_bad_line_does_not_take_its_neighbours(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"n" 1}\n{"n": 2}\n')

    assert list(read_records(path, None)) == [b'{"n" 1}', b'{"n": 2}']


def test_several_gzip_members_are_one_stream(tmp_path):
    content = b"".join(gzip.compress(line + b"\n") for line in LINES.splitlines())

    assert read(tmp_path, "members.jsonl.gz", content) == RECORDS


def container(records, family):
    out = io.BytesIO()
    fastavro.writer(out, avro_schema(family), records, codec="deflate")
    return out.getvalue()


def avro_call(**over):
    return tool_call(**over) | {"event_time": NOW} | over


@pytest.fixture
def lake(tmp_path):
    return open_lake(str(tmp_path / "lake"), create=True)


def write(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def ids(lake, table="tool_calls"):
    found = lake.connect().execute(f"SELECT event_id FROM {table} ORDER BY 1").fetchall()
    return [row[0] for row in found]


def test_an_avro_container_gives_the_same_events_as_json_lines(tmp_path, lake):
    call = avro_call(event_id="a", ext={"k": "v"}, required_scopes=["s"])
    avro = write(tmp_path, "x.avro", container([call], "tool_call"))
    text = json.dumps(call | {"event_time": NOW.isoformat()}).encode()
    lines = write(tmp_path, "x.jsonl", text)

    report = ingest_files([avro, lines], adapter="native", sink=lake, now=NOW)

    assert report.rows["tool_calls"] == 2
    raw = lake.connect().execute("SELECT count(DISTINCT event_uid) FROM tool_calls").fetchone()
    assert raw == (1,)


def test_of_a_damaged_avro_container_the_first_blocks_are_kept(tmp_path, lake):
    calls = [avro_call(event_id=f"e{n:05}", resource=f"r{n * 7919}" * 9) for n in range(4000)]
    whole = container(calls, "tool_call")

    report = ingest_files(
        [write(tmp_path, "x.avro", whole[: len(whole) - 500])], adapter="native", sink=lake, now=NOW
    )

    assert 0 < report.rows["tool_calls"] < 4000
    assert report.dead_letters == 1


def test_several_files_are_read_and_the_same_content_again_adds_nothing(tmp_path, lake):
    one = write(tmp_path, "one.jsonl", json.dumps(tool_call(event_id="a")).encode())
    two = write(tmp_path, "two.json", json.dumps([token_event(event_id="b")]).encode())
    ingest_files([one, two], adapter="native", sink=lake, now=NOW)

    report = ingest_files([one, two], adapter="native", sink=lake, now=NOW)

    assert ids(lake) == ["a"]
    assert ids(lake, "token_events") == ["b"]
    assert report.records == 0
    assert sorted(report.notes) == [
        "one.jsonl: the lake has all 1 records of it already",
        "two.json: the lake has all 1 records of it already",
    ]


def test_a_file_that_has_grown_adds_its_new_records_and_its_old_ones_collapse(tmp_path, lake):
    lines = [json.dumps(tool_call(event_id=name)).encode() + b"\n" for name in "abc"]
    ingest_files([write(tmp_path, "x.jsonl", lines[0])], adapter="native", sink=lake, now=NOW)

    ingest_files(
        [write(tmp_path, "x.jsonl", b"".join(lines))], adapter="native", sink=lake, now=NOW
    )

    raw = lake.connect().execute("SELECT count(DISTINCT event_uid) FROM tool_calls").fetchone()
    assert raw == (3,)


def test_an_empty_file_adds_nothing_and_says_so(tmp_path, lake):
    report = ingest_files([write(tmp_path, "e.jsonl", b"")], adapter="native", sink=lake, now=NOW)

    assert (report.records, list(report.notes)) == (0, ["e.jsonl: no records in it"])


def test_a_folder_gives_the_files_in_it(tmp_path, lake):
    (tmp_path / "day" / "hour").mkdir(parents=True)
    write(tmp_path / "day", "a.jsonl", json.dumps(tool_call(event_id="a")).encode())
    write(tmp_path / "day" / "hour", "b.jsonl", json.dumps(tool_call(event_id="b")).encode())
    write(tmp_path / "day", ".hidden", b"no")

    ingest_files([tmp_path / "day"], adapter="native", sink=lake, now=NOW)

    assert ids(lake) == ["a", "b"]


def test_a_file_that_is_not_there_is_an_error_that_names_it_and_nothing_is_read(tmp_path, lake):
    good = write(tmp_path, "a.jsonl", json.dumps(tool_call(event_id="a")).encode())

    with pytest.raises(SourceError, match=r"nowhere\.jsonl: No such file"):
        ingest_files([good, tmp_path / "nowhere.jsonl"], adapter="native", sink=lake, now=NOW)

    assert ids(lake) == []


def test_an_unknown_adapter_is_an_error_that_names_the_known_ones(tmp_path, lake):
    with pytest.raises(SourceError, match=r"no adapter 'splunk'; there are .*cloudtrail, .*native"):
        ingest_files([], adapter="splunk", sink=lake, now=NOW)


def test_a_file_with_bad_lines_keeps_the_good_ones(tmp_path, lake):
    deep = b'{"family": "tool_call", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    bad = [
        b"[1]",
        b"\xff\xfe",
        json.dumps(tool_call(event_time="9999-12-31T23:59:59Z")).encode(),
        json.dumps(tool_call(event_time="soon")).encode(),
        b'{"family": "tool_call", "event_time": NaN}',
        json.dumps(tool_call(required_scopes=["s" * 100_000])).encode(),
        deep,
    ]
    long = tool_call(event_id="long", act_chain=[{"subject": f"s{n}"} for n in range(200)])
    good = [json.dumps(tool_call(event_id="good")).encode(), json.dumps(long).encode()]
    path = write(tmp_path, "x.jsonl", b"\n".join([*bad, *good]))

    report = ingest_files([path], adapter="native", sink=lake, now=NOW)

    assert ids(lake) == ["good", "long"]
    assert report.dead_letters == len(bad)
