"""OTLP exports as a collector writes them, from spans that name only what matters."""

from __future__ import annotations

import json
from typing import Any

from pipeline.ingest.sources import Context, otel_genai

TRACE = "5b8efff798038103d269b633813fc60c"
START = 1_767_348_000_000_000_000

TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
RUN = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
MCP = {"mcp.method.name": "tools/call", "gen_ai.tool.name": "search"}
KINDS = {"internal": 1, "server": 2, "client": 3}


def span(number: int, parent: int | None = None, *, kind="internal", **over: Any) -> dict[str, Any]:
    """Return a span whose id is a number; `attributes` is a mapping, the rest is OTLP's."""
    pairs = over.pop("attributes", TOOL)
    made = {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": "a span",
        "kind": KINDS[kind],
        "startTimeUnixNano": str(START + number * 1_000_000),
        "endTimeUnixNano": str(START + number * 1_000_000 + 500_000),
        "attributes": [{"key": key, "value": any_value(value)} for key, value in pairs.items()],
    } | over
    return {name: value for name, value in made.items() if value is not None}


def any_value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case dict():
            listed = [{"key": key, "value": any_value(one)} for key, one in value.items()]
            return {"kvlistValue": {"values": listed}}
        case list():
            return {"arrayValue": {"values": [any_value(one) for one in value]}}
        case _:
            return {"stringValue": value}


def export(*spans: dict[str, Any], library: str = "lib", **resource: Any) -> bytes:
    """Return one export; the resource's attributes with `_` for `.`."""
    pairs = {"service.name": "desk"} | {
        name.replace("_", "."): value for name, value in resource.items()
    }
    about = [{"key": key, "value": any_value(value)} for key, value in pairs.items()]
    scopes = [{"scope": {"name": library}, "spans": list(spans)}]
    document = {"resourceSpans": [{"resource": {"attributes": about}, "scopeSpans": scopes}]}
    return json.dumps(document).encode()


def adapt(*values: bytes, **context: Any):
    return otel_genai.adapt(list(values), Context(**context))


def rows_of(adapted) -> list[dict[str, Any]]:
    assert adapted.refusals == []
    return [
        row for batch in adapted.batches for row in batch.batch.to_pylist(maps_as_pydicts="strict")
    ]


def rows(*values: bytes, **context: Any) -> list[dict[str, Any]]:
    return rows_of(adapt(*values, **context))


def row(*values: bytes, **context: Any) -> dict[str, Any]:
    (only,) = rows(*values, **context)
    return only
