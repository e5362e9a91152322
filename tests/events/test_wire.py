from __future__ import annotations

import copy
import json

import pytest

from pipeline.errors import SourceError
from pipeline.events.avro import fingerprint
from pipeline.events.schema import avro_schema, avro_text
from pipeline.events.wire import decode_batch
from tests.events.wire_forms import Lookup, as_json, body, event, framed, single_object


def _only(values, **options):
    decoded = decode_batch(values, registry=options.pop("registry", Lookup()), **options)
    assert decoded.failures == []
    return decoded.batches[0]


def _stages(values, **options):
    decoded = decode_batch(values, registry=options.pop("registry", Lookup()), **options)
    return {failure.row: failure.stage for failure in decoded.failures}


@pytest.mark.parametrize(
    ("value", "stage"),
    [
        (None, "frame"),
        (b"", "frame"),
        (b"   ", "frame"),
        (b"\0\0", "frame"),
        (b"\xc3\x01\x00", "frame"),
        (b"\x7fELF and more", "frame"),
        (b"[1,2]", "frame"),
        (b"\0\0\0\0\x63" + b"x" * 9, "decode"),
        (b"\xc3\x01" + b"x" * 20, "decode"),
        (framed(event())[:-3], "decode"),
        (framed(event()) + b"x", "decode"),
        (b'{"family":"tool_call"', "decode"),
        (b'{"family":"tool_call","event_time":NaN}', "decode"),
        (b'{"family":"tool_call","source":"\xff"}', "decode"),
        (as_json(event())[:-1] + b',"source":"again"}', "decode"),
        (as_json(event(family="tool_call") | {"family": "other"}), "validate"),
        (as_json(event(event_time="9999-12-31T23:59:59Z")), "validate"),
        (as_json(event(event_time="10000-01-01T00:00:00Z")), "validate"),
        (as_json(event(event_time="2026-11-20T12:00:00")), "validate"),
        (as_json(event(event_time=2**70)), "validate"),
        (as_json(event(event_time=1.5)), "validate"),
        (as_json(event(event_id=None)), "validate"),
        (as_json(event(outcome="fine")), "validate"),
        (as_json(event(tags="one")), "validate"),
        (as_json(event(tags=["a", 1])), "validate"),
        (as_json(event(tags=["a", None])), "validate"),
        (as_json(event(act_chain=[{"issuer": "i"}])), "validate"),
        (as_json(event(deep=0))[:-2] + b"[" * 900 + b"]" * 900 + b"}", "validate"),
        (as_json(event(resource_sensitivity=True)), "validate"),
        (as_json(event("token_event", credential_id=None)), "validate"),
        (
            as_json(event("token_event", parents=[{"role": "x", "kind": "k", "id": "i"}])),
            "validate",
        ),
        (as_json(event(required_scopes=["s" * 100_000])), "limit"),
        (framed(event(family="tool_call", required_scopes=["s" * 100_000])), "limit"),
        (as_json(event(resource="r" * 5_000_000)), "limit"),
    ],
)
def test_a_bad_record_fails_alone_with_its_stage(value, stage):
    values = [as_json(event()), framed(event()), value, framed(event()), as_json(event())]

    assert _stages(values) == {2: stage}


def test_a_reason_never_shows_the_content():
    values = [as_json(event(outcome="hunter2")), b'{"family":"hunter2"}', b'{"hunter2":']

    decoded = decode_batch(values, registry=None)

    assert len(decoded.failures) == 3
    assert "hunter2" not in str(decoded.failures)


def test_poison_in_a_large_batch_costs_only_itself():
    values = [framed(event(event_id=str(n))) for n in range(500)]
    values[3], values[77], values[400] = values[3][:9], values[77] + b"\0", b"\0\0\0\0\1"

    assert _stages(values) == {3: "decode", 77: "decode", 400: "decode"}


def test_a_failed_credential_operation_needs_no_credential():
    bare = dict.fromkeys(("credential_issuer", "credential_kind", "credential_id"))

    _only([as_json(event("token_event", **bare, outcome="failure"))])
    _only([as_json(event("token_event", **bare, op="deny"))])


def test_a_long_actor_chain_is_cut_and_marked():
    chain = [{"issuer": "i", "subject": str(n)} for n in range(200)]

    batch = _only([as_json(event(act_chain=chain))])

    assert [link["subject"] for link in batch.batch["act_chain"][0].as_py()] == [
        str(n) for n in range(100)
    ]
    assert batch.batch["act_truncated"].to_pylist() == [True]
    assert batch.parse_status.to_pylist() == ["partial"]


def test_unknown_json_keys_are_kept_in_ext():
    batch = _only([as_json(event(zone=5, deep={"b": [1], "a": 2}, ext={"k": "v"}))])

    assert dict(batch.batch["ext"][0].as_py()) == {"k": "v", "zone": "5", "deep": '{"a":2,"b":[1]}'}
    assert batch.parse_status.to_pylist() == ["ok"]


def test_rfc_3339_and_microseconds_are_the_same_event():
    values = [
        as_json(event(event_time=t))
        for t in (1_700_000_000_123_456, "2023-11-14T23:13:20.123456789+01:00")
    ]

    assert len(set(_only(values).event_uids.to_pylist())) == 1


def _changed(change):
    schema = copy.deepcopy(avro_schema("tool_call"))
    change(schema["fields"])
    return schema


def _field(fields, name):
    return next(field for field in fields if field["name"] == name)


def test_an_older_writer_gives_the_same_event_uid():
    def older(fields):
        fields[:] = [f for f in fields if f["name"] not in ("tags", "phase", "workload_id", "ext")]

    schema = _changed(older)

    batch = _only([framed(event(), schema, 9)], registry=Lookup(id_9=json.dumps(schema)))

    assert batch.event_uids[0] == _only([as_json(event())]).event_uids[0]


def test_a_newer_writers_unknown_field_goes_to_ext():
    schema = _changed(lambda fields: fields.append({"name": "zone", "type": ["null", "long"]}))

    batch = _only([framed(event(zone=7), schema, 9)], registry=Lookup(id_9=json.dumps(schema)))

    assert dict(batch.batch["ext"][0].as_py()) == {"zone": "7"}


def test_types_are_promoted_as_avro_allows():
    def promote(fields):
        _field(fields, "event_time")["type"] = {"type": "long", "logicalType": "timestamp-millis"}
        _field(fields, "resource_sensitivity")["type"] = ["null", "long"]
        _field(fields, "operation")["type"] = ["null", "long", "string"]

    schema = _changed(promote)
    sent = event(event_time=1_700_000_000_000, resource_sensitivity=3, operation="GET")

    batch = _only([framed(sent, schema, 9)], registry=Lookup(id_9=json.dumps(schema)))

    same = event(resource_sensitivity=3, operation="GET")
    assert batch.event_uids[0] == _only([as_json(same)]).event_uids[0]


def test_a_newer_writers_unknown_word_fails_only_the_rows_that_say_it():
    schema = _changed(
        lambda fields: _field(fields, "outcome")["type"]["symbols"].append("escalated")
    )
    values = [framed(event(outcome=word), schema, 9) for word in ("success", "escalated")]

    assert _stages(values, registry=Lookup(id_9=json.dumps(schema))) == {1: "validate"}


def test_a_writer_with_bytes_is_read_without_the_fast_decoder():
    schema = _changed(lambda fields: fields.append({"name": "blob", "type": "bytes"}))

    batch = _only(
        [framed(event(blob=b"\1\2"), schema, 9)], registry=Lookup(id_9=json.dumps(schema))
    )

    assert dict(batch.batch["ext"][0].as_py()) == {"blob": "0102"}


def test_a_list_of_nothing_is_refused_before_it_can_fill_the_memory():
    schema = _changed(
        lambda fields: fields.append({"name": "x", "type": {"type": "array", "items": "null"}})
    )

    assert _stages([b"\0\0\0\0\x09" + b"\xff" * 30], registry=Lookup(id_9=json.dumps(schema))) == {
        0: "decode"
    }


def test_an_extra_schema_is_known_by_its_fingerprint():
    schema = _changed(lambda fields: fields.pop())
    text = json.dumps(schema)
    value = b"\xc3\x01" + fingerprint(text) + body(event(), schema)

    assert _stages([value]) == {0: "decode"}
    assert _only([value], extra_schemas=[text]).batch.num_rows == 1


def test_a_registry_that_is_down_stops_the_batch_instead_of_losing_it():
    class Down:
        def schema_text(self, schema_id):
            raise SourceError("registry unreachable")

    with pytest.raises(SourceError):
        decode_batch([framed(event())], registry=Down())


def test_the_order_of_ext_does_not_change_the_event_uid():
    forwards, backwards = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    values = [form(event(ext=e)) for e in (forwards, backwards) for form in (framed, single_object)]

    decoded = decode_batch(values, registry=Lookup())

    assert len({u for batch in decoded.batches for u in batch.event_uids.to_pylist()}) == 1


def test_our_schemas_are_their_own_writers():
    assert _only([framed(event("secret_event"))]).family == "secret_event"
    assert avro_text("secret_event").startswith("{")
