"""The forms in which spans come, and what is wrong with those that cannot be read."""

import base64
import json
import struct

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from pipeline.ingest.json_text import digest
from pipeline.ingest.otel_spans import id_of, read_spans
from tests.ingest.otlp import RUN, START, TOOL, TRACE, adapt, export, row, rows, span

BIG = 0x5B8EFFF798038103D269B633813FC60C


def reasons(*values):
    return [(item.row, item.reason) for item in adapt(*values).refusals]


def protobuf(*spans, service="desk"):
    data = TracesData()
    resource = data.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_spans.add()
    scope.scope.name = "lib"
    for number, parent, pairs in spans:
        made = scope.spans.add(
            trace_id=bytes.fromhex(TRACE),
            span_id=struct.pack(">Q", number),
            parent_span_id=struct.pack(">Q", parent) if parent else b"",
            name="a span",
            kind=1,
            start_time_unix_nano=START + number * 1_000_000,
            end_time_unix_nano=START + number * 1_000_000 + 500_000,
        )
        for key, value in pairs.items():
            made.attributes.add(key=key).value.string_value = value
    return data


def test_protobuf_and_json_of_one_export_give_the_same_rows():
    data = protobuf((2, 1, TOOL | {"gen_ai.tool.call.arguments": '{"a": 1}'}), (1, None, RUN))
    text = export(
        span(2, 1, attributes=TOOL | {"gen_ai.tool.call.arguments": '{"a": 1}'}),
        span(1, attributes=RUN),
    )

    assert rows(data.SerializeToString()) == rows(text)


def test_an_export_whose_length_reads_like_an_opening_brace_is_still_protobuf():
    data = protobuf((2, 1, {"gen_ai.tool.name": "search"}))
    (resource,) = data.resource_spans
    resource.ClearField("resource")
    resource.scope_spans[0].scope.version = "v" * (123 - resource.ByteSize() - 2)
    raw = data.SerializeToString()
    assert raw.startswith(b"\n{")

    assert row(raw)["tool_name"] == "search"


def test_values_of_every_type_are_the_same_in_protobuf():
    data = protobuf((2, 1, TOOL))
    (made,) = data.resource_spans[0].scope_spans[0].spans
    held = made.attributes.add(key="gen_ai.tool.call.arguments").value.kvlist_value
    held.values.add(key="a").value.int_value = 7
    held.values.add(key="b").value.array_value.values.add().double_value = 2.5
    held.values.add(key="c").value.bytes_value = b"\x01\xff"
    held.values.add(key="d")
    held.values.add(key="e").value.bool_value = True

    found = row(data.SerializeToString())

    assert found["args_hash"] == digest({"a": 7, "b": [2.5], "c": "01ff", "d": None, "e": True})


def test_an_empty_export_in_protobuf_holds_no_spans():
    data = TracesData()
    data.resource_spans.add().scope_spans.add()

    adapted = adapt(data.SerializeToString())

    assert (adapted.batches, adapted.refusals) == ([], [])
    assert adapted.skipped == {"an export without spans": 1}


def test_json_behind_a_line_feed_and_a_mark_is_still_json():
    assert row(b"\n" + export(span(1)))["tool_name"] == "search"
    assert row(b"\xef\xbb\xbf" + export(span(1)))["tool_name"] == "search"


@pytest.mark.parametrize("raw", [b"\x00", b"\n\x05abc", b"\x1f\x8b\x08\x00", b"text", b"\n"])
def test_bytes_of_something_else_are_refused(raw):
    assert len(reasons(raw)) == 1


def test_logs_sent_in_place_of_traces_are_refused_and_never_taken_for_spans():
    logs = LogsData()
    record = logs.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano = START
    record.body.string_value = "do-not-store"
    record.attributes.add(key="gen_ai.tool.name").value.string_value = "search"

    adapted = adapt(logs.SerializeToString())

    assert adapted.batches == []
    assert len(adapted.refusals) == 1


def test_a_protobuf_span_without_an_id_is_refused_and_its_neighbours_are_taken():
    data = protobuf((2, 1, TOOL), (3, 1, TOOL))
    data.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"

    adapted = adapt(data.SerializeToString())

    assert [item.reason for item in adapted.refusals] == ["traceId is missing or is no id"]
    assert [batch.batch.num_rows for batch in adapted.batches] == [1]


@pytest.mark.parametrize(
    "value",
    [
        BIG,
        TRACE,
        TRACE.upper(),
        "0x" + TRACE,
        base64.b64encode(bytes.fromhex(TRACE)).decode(),
    ],
)
def test_a_trace_id_is_the_same_in_every_way_to_write_it(value):
    assert id_of(value, 32) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "0" * 32,
        "0x0",
        0,
        -1,
        1 << 128,
        float(BIG),
        True,
        "xyz",
        TRACE[:-1],
        "A" * 24,
        "!" * 24,
        [],
    ],
)
def test_what_is_no_trace_id_is_none(value):
    assert id_of(value, 32) is None


def whole_numbers(trace_id, span_id=17240118823041755501):
    return (
        f'{{"name":"execute_tool x","kind":"internal","start_time":{START},"end_time":{START},'
        f'"context":{{"trace_id":{trace_id},"span_id":{span_id}}},'
        '"parent":{"trace_id":null,"span_id":null},'
        '"status":{"status_code":"ok"},"attributes":{"gen_ai.operation.name":"execute_tool"}}'
    ).encode()


def test_ids_that_are_whole_numbers_keep_every_digit():
    found = row(whole_numbers(BIG))

    assert (found["trace_id"], found["span_id"]) == (TRACE, "ef4134ba3cede96d")
    assert row(b'{"spans":[' + whole_numbers(BIG) + b"]}") == found
    assert row(b"[" + whole_numbers(BIG) + b"]") == found


@pytest.mark.parametrize("lossy", ["1.2169973e38", "5e0", str(1 << 128), "null", '"x"'])
def test_an_id_that_lost_its_digits_is_refused(lossy):
    assert reasons(whole_numbers(lossy)) == [(0, "traceId is missing or is no id")]
    assert reasons(whole_numbers(BIG, lossy)) == [(0, "spanId is missing or is no id")]


@pytest.mark.parametrize(
    ("start", "moment"),
    [
        (START, "2026-01-02T10:00:00+00:00"),
        (str(START + 1_999), "2026-01-02T10:00:00.000001+00:00"),
        (START // 10**3, "2026-01-02T10:00:00+00:00"),
        (START // 10**6, "2026-01-02T10:00:00+00:00"),
        (START // 10**9, "2026-01-02T10:00:00+00:00"),
        ("2026-01-02T12:00:00.5+02:00", "2026-01-02T10:00:00.500000+00:00"),
        ("2026-01-02T10:00:00Z", "2026-01-02T10:00:00+00:00"),
        ("2026-01-02T10:00:00", "2026-01-02T10:00:00+00:00"),
    ],
)
def test_a_time_is_read_in_every_way_to_write_it(start, moment):
    assert row(export(span(1, startTimeUnixNano=start)))["event_time"].isoformat() == moment


@pytest.mark.parametrize(
    "start", [None, 0, "0", -5, "", "soon", 1.7e18, True, "9" * 40, [], "2026-13-01T00:00:00Z"]
)
def test_what_is_no_time_is_refused(start):
    assert reasons(export(span(1, startTimeUnixNano=start))) == [
        (0, "startTimeUnixNano is missing or is no time")
    ]


def test_a_time_beyond_all_calendars_is_refused_by_the_contract():
    (refusal,) = adapt(export(span(1, startTimeUnixNano="99999999999999999999"))).refusals

    assert "event_time" in refusal.reason


def test_older_names_of_otlp_json_are_read_alike():
    document = json.loads(export(span(2, 1), span(1, attributes=RUN)))
    (resource,) = document["resourceSpans"]
    (scope,) = resource.pop("scopeSpans")
    older = {"spans": scope["spans"], "instrumentationLibrary": scope["scope"]}
    resource["instrumentationLibrarySpans"] = [older]
    snake = json.loads(
        export(span(2, 1), span(1, attributes=RUN))
        .replace(b"resourceSpans", b"resource_spans")
        .replace(b"scopeSpans", b"scope_spans")
        .replace(b"traceId", b"trace_id")
        .replace(b"spanId", b"span_id")
        .replace(b"parentSpanId", b"parent_span_id")
        .replace(b"startTimeUnixNano", b"start_time_unix_nano")
        .replace(b"endTimeUnixNano", b"end_time_unix_nano")
        .replace(b"stringValue", b"string_value")
    )

    plain = rows(export(span(2, 1), span(1, attributes=RUN)))

    assert rows(json.dumps(document).encode()) == plain
    assert rows(json.dumps(snake).encode()) == plain


def test_values_of_every_type_are_read():
    pairs = TOOL | {
        "gen_ai.tool.call.arguments": {"a": [1, 2.5, True, "x", {"b": None}]},
        "jsonrpc.request.id": 12,
    }

    found = row(export(span(1, attributes=pairs)))

    assert found["args_hash"] is not None
    assert found["ext"] == {"jsonrpc.request.id": "12"}


@pytest.mark.parametrize(
    "attributes",
    [
        None,
        {},
        "x",
        [None, 1, "x", {}, {"key": None}, {"key": "gen_ai.tool.name"}],
        [{"key": "gen_ai.tool.name", "value": None}],
        [{"key": "gen_ai.tool.name", "value": {"stringValue": None}}],
        [{"key": "gen_ai.tool.name", "value": {"kvlistValue": {"values": "x"}}}],
        [{"key": "gen_ai.tool.name", "value": {"arrayValue": {"values": "x"}}}],
        [{"key": "gen_ai.tool.name", "value": {"intValue": "x"}}],
        [{"key": "gen_ai.tool.name", "value": {"stringValue": "a", "intValue": 1}}],
    ],
)
def test_attributes_in_a_wrong_form_are_as_good_as_none(attributes):
    broken = span(1) | {"attributes": attributes}

    adapted = adapt(export(broken, span(2)))

    assert adapted.refusals == []
    assert adapted.skipped == {"a span of no agent": 1}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"resourceSpans": 1}, "resourceSpans is no list"),
        ({"resourceSpans": [1]}, "an element of resourceSpans is no object"),
        ({"resourceSpans": [{"scopeSpans": "x"}]}, "scopeSpans is no list"),
        ({"resourceSpans": [{"scopeSpans": [[]]}]}, "an element of scopeSpans is no object"),
        ({"resourceSpans": [{"scopeSpans": [{"spans": {}}]}]}, "spans is no list"),
        (
            {"resourceSpans": [{"scopeSpans": [{"spans": [None]}]}]},
            "an element of spans is no object",
        ),
        ({"spans": [7]}, "holds neither resourceSpans nor a span's context"),
        ({"context": "x"}, "holds neither resourceSpans nor a span's context"),
        ([[]], "a span is no JSON object"),
        ("x", "a span is no JSON object"),
        ({"resourceLogs": []}, "holds neither resourceSpans nor a span's context"),
    ],
)
def test_a_part_in_a_wrong_form_is_refused_by_its_name(document, reason):
    if isinstance(document, str):
        document = [document]

    assert reasons(json.dumps(document).encode()) == [(0, reason)]


def test_of_what_cannot_be_read_a_dead_letter_keeps_the_names_alone():
    (refusal,) = adapt(b'[{"prompt": "do-not-store"}]').refusals

    assert refusal.raw == b'["prompt"]'


def test_prompts_and_events_are_not_even_read():
    attributes = TOOL | {"gen_ai.input.messages": "do-not-store"}
    events = [{"name": "do-not-store", "attributes": []}]

    read = read_spans([(0, export(span(1, attributes=attributes, events=events)))])

    assert "do-not-store" not in repr(read)
