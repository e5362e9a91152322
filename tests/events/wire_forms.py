"""Encode events in the three wire forms, with fastavro and json: not with our own code."""

from __future__ import annotations

import io
import json

import fastavro

from pipeline.events.avro import fingerprint
from pipeline.events.schema import FAMILIES, avro_schema, avro_text, defaults

IDS = {family: number for number, family in enumerate(FAMILIES, start=1)}


class Lookup:
    """A registry of our own three schemas, and any others."""

    def __init__(self, **extra):
        self.texts = {IDS[family]: avro_text(family) for family in FAMILIES}
        self.texts |= {int(name.removeprefix("id_")): text for name, text in extra.items()}

    def schema_text(self, schema_id):
        return self.texts[schema_id]


def body(event, schema):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), event)
    return stream.getvalue()


def framed(event, schema=None, schema_id=None):
    family = event["family"]
    head = b"\0" + (schema_id or IDS[family]).to_bytes(4)
    return head + body(event, schema or avro_schema(family))


def single_object(event):
    family = event["family"]
    return b"\xc3\x01" + fingerprint(avro_text(family)) + body(event, avro_schema(family))


def as_json(event):
    return json.dumps(event).encode()


def event(family="tool_call", **over):
    usual = {
        "tool_call": {"tool_name": "t", "outcome": "success", "agent_id": "a"},
        "token_event": {
            "op": "issue",
            "outcome": "success",
            "credential_issuer": "i",
            "credential_kind": "jti",
            "credential_id": "c",
        },
        "secret_event": {"op": "read", "secret_id": "s"},
    }[family]
    head = {"event_id": "e", "source": "urn:x", "event_time": 1_700_000_000_000_000}
    return {"family": family, **head, "observer": "gateway", **usual, **over}


def with_defaults(event):
    return {**defaults(event["family"]), **event}
