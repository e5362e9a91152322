"""`--adapter auto`: each record goes to the source that recognises it."""

import gzip
import json
from collections import Counter

import pytest

from pipeline.ingest.batch import ANCHOR, Slice, TopicPartition
from pipeline.ingest.file_records import READ_BYTES, read_records
from pipeline.ingest.files import wrapping_of
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.run import ingest_files
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import Context, load_adapter
from pipeline.ingest.take import take_slice
from pipeline.ingest.tally import Taken
from tests.factories import NOW, tool_call

PLACE = TopicPartition("mixed", 0)


def trail(event_id="t-1", **over):
    return {
        "eventID": event_id,
        "eventTime": "2026-01-02T03:04:05Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111111111111:user/ann"},
    } | over


def take(*values, context=None, **over):
    raw = [item if item is None or isinstance(item, bytes) else dump(item) for item in values]
    records = Slice(PLACE, AUTO, raw, range(100, 100 + len(raw)), **over)
    return take_slice(records, context or Context(), NOW)


def dump(value):
    return json.dumps(value).encode()


def column(rows, table, *names):
    found = [row for batch in rows.tables.get(table, []) for row in batch.to_pylist()]
    return sorted(tuple(row[name] for name in names) for row in found)


def counts(rows):
    return {taken.adapter: count for taken, count in rows.tally.taken.items()}


def test_records_of_several_sources_in_one_slice_are_each_taken_by_their_own():
    rows = take(tool_call(event_id="n-1"), trail("t-1"), tool_call(event_id="n-2"), trail("t-2"))

    assert column(rows, "tool_calls", "event_id", "adapter", "kafka_offset") == [
        ("n-1", "native", 100),
        ("n-2", "native", 102),
        ("t-1", "cloudtrail", 101),
        ("t-2", "cloudtrail", 103),
    ]
    assert counts(rows) == {"native": 2, "cloudtrail": 2}


def test_what_nobody_recognises_is_a_dead_letter_that_says_what_can_be_done():
    rows = take({"what": "ever"}, [1], trail())

    letters = column(rows, ANCHOR, "kafka_offset", "adapter", "stage", "raw")
    (reason,) = {reason for (reason,) in column(rows, ANCHOR, "reason")}
    assert letters == [(100, AUTO, "adapt", b'{"what": "ever"}'), (101, AUTO, "adapt", b"[1]")]
    assert "delegraph sources ls" in reason
    assert "YAML" in reason
    assert counts(rows) == {None: 2, "cloudtrail": 1}


@pytest.mark.parametrize(
    ("value", "stage"),
    [
        (None, "frame"),
        (b" \n", "frame"),
        (b"{broken", "decode"),
        (b"\xef\xbb\xbf", "frame"),
        (b"\x0a\xff", "adapt"),
    ],
)
def test_what_is_no_json_is_a_dead_letter_of_auto(value, stage):
    rows = take(value, trail())

    assert column(rows, ANCHOR, "adapter", "stage") == [(AUTO, stage)]
    assert len(column(rows, "tool_calls", "event_id")) == 1


def test_a_refused_record_is_a_dead_letter_of_the_source_that_recognised_it():
    rows = take(trail(eventTime="never"), {"family": "tool_call"})

    assert column(rows, ANCHOR, "kafka_offset", "adapter") == [(100, "cloudtrail"), (101, "native")]


def test_a_record_that_the_file_reader_could_not_read_counts_as_not_recognised():
    rows = take(b"half of a gzip", trail(), faults={0: ("frame", "the gzip data ends early")})

    assert column(rows, ANCHOR, "adapter", "reason") == [(AUTO, "the gzip data ends early")]
    assert counts(rows) == {None: 1, "cloudtrail": 1}


@pytest.mark.parametrize("wrap", [list, lambda records: {"Records": records}])
def test_a_value_that_lists_records_is_taken_whole_by_their_source(wrap):
    rows = take(wrap([trail("a"), trail("b")]))

    assert column(rows, "tool_calls", "event_id") == [("a",), ("b",)]
    assert counts(rows) == {"cloudtrail": 1}


def test_a_value_that_lists_records_of_several_sources_is_parted():
    rows = take([trail("a"), {"what": "ever"}, trail("b", eventTime="never")])

    assert column(rows, "tool_calls", "event_id", "kafka_offset") == [("a", 100)]
    letters = column(rows, ANCHOR, "adapter", "kafka_offset", "raw")
    assert [letter[:2] for letter in letters] == [(AUTO, 100), ("cloudtrail", 100)]
    assert letters[0][2] == b'[{"what":"ever"}]'
    assert b'"a"' not in letters[1][2]


def test_a_record_behind_the_prefix_of_a_log_line_is_recognised():
    line = {"type": "request", "time": "2026-01-02T03:04:05Z"}
    line |= {"request": {"id": "r-1", "path": "kv/data/db", "operation": "read"}}

    rows = take(b"@cee: " + dump(line), b"no record {", b"prefix {}")

    assert column(rows, "tool_calls", "adapter") == [("vault_audit",)]
    assert column(rows, ANCHOR, "adapter", "kafka_offset") == [(AUTO, 101), (AUTO, 102)]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda line: b"[pod/trail-0/main] " + line,
        lambda line: dump({"log": line.decode() + "\n", "stream": "stdout", "time": "now"}),
        lambda line: dump({"message": line.decode(), "kubernetes": {"pod_name": "trail-0"}}),
    ],
    ids=["kubectl", "docker", "fluent bit"],
)
def test_a_record_in_a_line_of_a_container_s_log_is_recognised(wrap):
    rows = take(wrap(dump(trail("a"))), wrap(b"no record"), wrap(dump(trail("b", eventTime="?"))))

    assert column(rows, "tool_calls", "event_id", "adapter") == [("a", "cloudtrail")]
    assert column(rows, ANCHOR, "adapter", "kafka_offset") == [(AUTO, 101), ("cloudtrail", 102)]


def test_a_record_in_a_message_of_any_other_log_is_no_record():
    rows = take({"level": "info", "message": dump(trail("a")).decode()})

    assert column(rows, ANCHOR, "adapter") == [(AUTO,)]


SAMPLES = ("aat", "attenu_guard", "otel_genai", "toolhive")


def sample(name):
    """Return the records of a sample that hold what must not be stored."""
    found = read_records(sample_path(name), load_adapter(name).WRAPPER)
    return [one for one in found if b"do-not-store" in one]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_record_that_is_cut_keeps_nothing_that_its_source_hides(name):
    cut = [one[: one.rindex(b"do-not-store") + 13] for one in sample(name)]

    rows = take(*cut)

    letters = column(rows, ANCHOR, "adapter", "raw")
    assert [adapter for adapter, _ in letters] == [AUTO] * len(cut)
    assert not [raw for _, raw in letters if b"do-not" in raw]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("asked", ["kubernetes_audit", "toolhive", "otel_genai"])
def test_a_record_given_to_the_wrong_source_keeps_nothing_that_its_own_hides(name, asked):
    given = sample(name) if name != asked else []
    records = Slice(TopicPartition("t", 0), asked, given, range(len(given)))

    rows = take_slice(records, Context(), NOW)

    letters = column(rows, ANCHOR, "raw") if given else []
    assert len(letters) == len(given)
    assert not [raw for (raw,) in letters if b"do-not" in raw]


def test_numbers_of_more_than_64_bits_come_through_a_parted_value_unchanged():
    number = 170141183460469231731687303715884105727
    rows = take([{"what": number}, trail("a")])

    assert column(rows, ANCHOR, "raw") == [(dump([{"what": number}]).replace(b" ", b""),)]


def test_the_wrapper_of_one_source_in_a_record_of_another_is_only_a_field():
    event = tool_call(event_id="n-1") | {"Records": [trail("a")]}

    rows = take(event)

    assert column(rows, "tool_calls", "event_id", "adapter") == [("n-1", "native")]


def read(path):
    return [json.loads(item) for item in read_records(path, wrapping_of(AUTO))]


def test_a_delivery_file_is_opened_for_whichever_source_it_is(tmp_path):
    records = [trail("a"), trail("b")]
    (tmp_path / "x").write_bytes(dump({"Records": records}))
    (tmp_path / "y").write_bytes(gzip.compress(dump(records)))
    (tmp_path / "z").write_bytes(dump({"Records": [{"what": "ever"}]}))
    (tmp_path / "w").write_bytes(dump(tool_call(event_id="n") | {"Records": records}))

    assert read(tmp_path / "x") == read(tmp_path / "y") == records
    assert read(tmp_path / "z") == [{"Records": [{"what": "ever"}]}]
    assert len(read(tmp_path / "w")) == 1


def test_of_a_cut_delivery_file_the_records_before_the_fault_are_kept(tmp_path):
    whole = dump({"Records": [trail("a"), trail("b")]})
    (tmp_path / "x").write_bytes(whole[:-30])

    first, rest = read_records(tmp_path / "x", wrapping_of(AUTO))

    assert json.loads(first) == trail("a")
    assert rest.stage == "decode"


def test_a_list_may_say_of_itself_what_it_likes_before_its_records(tmp_path):
    audit = {"apiVersion": "audit.k8s.io/v1", "auditID": "a", "stage": "Panic", "verb": "get"}
    about = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "n": 1}
    (tmp_path / "x").write_bytes(dump(about | {"items": [audit, audit, audit]})[:-20])

    *found, rest = read_records(tmp_path / "x", wrapping_of(AUTO))

    assert list(map(json.loads, found)) == [audit, audit]
    assert rest.stage == "decode"


MEANT_FOR_NOBODY = "do-not-store"
CUT = {
    "cloudtrail": trail(requestParameters={"command": MEANT_FOR_NOBODY}),
    "kubernetes_audit": {
        "apiVersion": "audit.k8s.io/v1",
        "requestObject": {"data": {"key": MEANT_FOR_NOBODY}},
    },
    "gcp_audit": {
        "protoPayload": {
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
            "request": {"payload": MEANT_FOR_NOBODY},
        }
    },
    "vault_audit": {
        "type": "request",
        "request": {"client_token_accessor": "a", "data": {"value": MEANT_FOR_NOBODY}},
    },
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_off_keeps_no_arguments_whether_a_line_or_the_end_of_a_file(name):
    raw = dump(CUT[name])[:-3]
    line, rest = take(raw), take(raw, faults={0: ("decode", "not JSON: it ends early")})

    assert column(line, ANCHOR, "adapter", "stage") == [(name, "decode")]
    for rows in (line, rest):
        [(kept,)] = column(rows, ANCHOR, "raw")
        assert MEANT_FOR_NOBODY.encode() not in kept


def test_lines_are_still_read_as_a_stream(tmp_path):
    path = tmp_path / "x.jsonl"
    with path.open("wb") as stream:
        for number in range(2000):
            stream.write(dump(trail(str(number))) + b"\n")
    records = read_records(path, wrapping_of(AUTO))

    first = next(records)

    assert json.loads(first)["eventID"] == "0"
    assert path.stat().st_size > 4 * READ_BYTES
    path.write_bytes(b"")  # what was not read yet is gone
    assert sum(1 for _ in records) < 2000 // 2


class Sink:
    """Takes everything and keeps nothing."""

    def offsets(self, table, places):
        return dict.fromkeys(places, -1)

    def append(self, table, rows, offsets):
        return rows.num_rows


def test_the_report_says_per_file_who_took_the_records(tmp_path):
    (tmp_path / "one.jsonl").write_bytes(
        b"\n".join([dump(trail("a")), dump(tool_call()), b'{"what": "ever"}'])
    )
    (tmp_path / "two.json").write_bytes(dump([trail("c"), trail("d")]))

    report = ingest_files(
        [tmp_path / "one.jsonl", tmp_path / "two.json"], adapter=AUTO, sink=Sink(), now=NOW
    )

    found = Counter({(t.topic[:12], t.adapter): n for t, n in report.tally.taken.items()})
    assert found == {
        ("file:one.jso", "cloudtrail"): 1,
        ("file:one.jso", "native"): 1,
        ("file:one.jso", None): 1,
        ("file:two.jso", "cloudtrail"): 2,
    }
    assert {taken.asked for taken in report.tally.taken} == {AUTO}


def test_what_is_not_asked_for_by_content_is_counted_too():
    records = Slice(PLACE, "cloudtrail", [dump(trail()), b"no"], range(2))

    rows = take_slice(records, Context(), NOW)

    assert rows.tally.taken == {Taken("mixed", "cloudtrail", "cloudtrail"): 2}


def test_a_source_that_knows_no_prefixes_is_given_what_stands_behind_one():
    rows = take(b"Nov 24 07:00:01 host trail: " + dump(trail()))

    assert column(rows, "tool_calls", "adapter", "event_id") == [("cloudtrail", "t-1")]
    assert column(rows, ANCHOR, "raw") == []
