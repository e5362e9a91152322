"""OpenTelemetry spans of agents: OTLP from Kafka or files, spans as the SDKs print them.

A tool's execution, an MCP call as its client and as its server saw it, a read of an
agent's data source, an agent made or asked by another agent: one tool call each.
Spans that tell of one call share its `call_id`, and differ in `source`, which names the
layer, the library that wrote the span, and the service.  All else is skipped and counted:
a model call, an agent's run, a workflow's step, a span of no agent.

The agent is often named only by the run above a tool's span, a user or conversation by
any span above: they are taken from the same trace as far as it is in the same batch.
Where that shows no agent, the service acts; of a server's span the caller is `unknown`.
A collector that groups spans by trace before it sends them brings them together.
OpenTelemetry has no attribute for a delegation, nor for an identity that was proven.

Arguments and results become digests; prompts, answers, messages and events are not read.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.events.conform import build_batch
from pipeline.events.wire import Decoded
from pipeline.ingest import otel_words as words
from pipeline.ingest.json_text import digest, digest_or_none, parse_json
from pipeline.ingest.otel_calls import (
    CALL_PARTS,
    Node,
    Traces,
    Who,
    call_id,
    is_invocation,
    observations,
    source_of,
)
from pipeline.ingest.otel_spans import id_of, is_code, read_spans
from pipeline.ingest.sources import Adapted, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.otel_spans import Span
    from pipeline.ingest.sources import Context

WRAPPER = "spans"
HIDDEN = words.HIDDEN
"""Paths that no dead letter may keep of a record that cannot be read."""

MAPPING = (
    ("traceId, spanId", "event_id, trace_id, span_id"),
    ("parentSpanId", "parent_span_id"),
    ("startTimeUnixNano", "event_time"),
    ("kind, gen_ai.operation.name, mcp.method.name", "observer"),
    ("kind, scope.name, service.name", "source"),
    ("spanId of the MCP client's span, else of the outermost span of the call", "call_id"),
    ("gen_ai.tool.name, or after the operation in the span's name", "tool_name"),
    ("status.code, error.type, rpc.response.status_code, ...", "outcome"),
    ("gen_ai.agent.id, else gen_ai.agent.name, of the span or the nearest above", "agent_id"),
    (
        "the same of the agent above that, gen_ai.handoff.from_agent, graph.node.parent_id",
        "parent_agent_id",
    ),
    ("gen_ai.agent.version", "agent_version"),
    ("service.instance.id", "agent_instance"),
    ("k8s.*.name, else service.name", "workload_id"),
    ("server.address and server.port; service.name of a server's span", "tool_server"),
    ("network.transport, server.address, gen_ai.tool.type", "tool_protocol"),
    ("mcp.method.name, else gen_ai.operation.name", "operation"),
    ("mcp.resource.uri, gen_ai.prompt.name, gen_ai.data_source.id", "resource"),
    ("mcp.method.name resources/read and prompts/get, retrieval", "action_class"),
    ("gen_ai.conversation.id, session.id, mcp.session.id", "session_id"),
    ("user.id, enduser.id", "subject_id"),
    ("enduser.scope of a server's span", "presented_scopes"),
    ("client.address of a server's span", "src_ip"),
    ("user_agent.original", "user_agent"),
    ("deployment.environment.name", "environment"),
    ("gen_ai.tool.call.arguments", "args_hash"),
    ("gen_ai.tool.call.result", "result_hash"),
)

_DENIED = re.compile(
    r"permission|forbidden|un_?authori[sz]ed|access_?denied|not_?authori[sz]ed|unauthenticated"
    r"|insufficient_?scope",
    re.IGNORECASE,
)
_DENIED_CODES = {
    "http.response.status_code": {"401", "403"},
    "http.status_code": {"401", "403"},
    "rpc.grpc.status_code": {"7", "16"},
    "error.type": {"401", "403"},
    "rpc.response.status_code": {"401", "403"},
}
_TIMEOUT = re.compile(r"time_?d?[_ ]?out|deadline[_ ]?exceeded", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]{1,10}")
_HTTP_ERROR = 400
_TRANSPORTS = {"pipe": "mcp_stdio", "tcp": "mcp_http", "quic": "mcp_http"}
_ACTIONS = {"retrieval": "read", "create": "write"}
_OBSERVERS = {"mcp_server": "resource_server"}


def recognises(record: object) -> bool:
    """Return whether a record is an export of traces, or a span with its context."""
    if isinstance(record, bytes):
        spans = read_spans([(0, record)]).spans
        return any(span.trace_id and span.span_id for span in spans)
    if not isinstance(record, dict):
        return False
    if any(isinstance(record.get(name), list) for name in ("resourceSpans", "resource_spans")):
        return True
    listed = record.get("spans")
    if isinstance(listed, list) and listed:
        return recognises(listed[0]) and "spans" not in listed[0]
    context = record.get("context")
    if not isinstance(context, dict) or not isinstance(record.get("attributes"), dict):
        return False
    # Whoever asks may have read a number of 128 bits as a float.
    ids = (context.get("trace_id"), 32), (context.get("span_id"), 16)
    return all(isinstance(value, float) or id_of(value, digits) for value, digits in ids)


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return one tool call per span that tells of a call."""
    refusals = [
        Refusal(row, "frame", "no value")
        for row, value in enumerate(values)
        if value is None or not value.strip()
    ]
    read = read_spans([(row, value) for row, value in enumerate(values) if value and value.strip()])
    refusals += read.refusals
    skipped = Counter({words.NO_SPANS: read.empty})
    whole = []
    for span in read.spans:
        fault = _fault(span)
        if fault:
            refusals.append(Refusal(span.row, "adapt", fault, span.safe()))
        else:
            whole.append(span)
    decoded = Decoded()
    refusals += _take(Traces(whole), context, decoded, skipped)
    return Adapted(decoded.batches, refusals, +skipped)


def _fault(span: Span) -> str:
    if span.trace_id is None:
        return "traceId is missing or is no id"
    if span.span_id is None:
        return "spanId is missing or is no id"
    if span.start_us is None:
        return "startTimeUnixNano is missing or is no time"
    return ""


def _take(
    traces: Traces, context: Context, decoded: Decoded, skipped: Counter[str]
) -> list[Refusal]:
    taken: list[tuple[Node, dict[str, Any]]] = []
    refusals = []
    seen: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for node in traces.nodes:
        reason = _why_skipped(node)
        if reason:
            skipped[reason] += 1
        elif node.tool is None:
            reason = "gen_ai.tool.name is missing"
            refusals.append(Refusal(node.span.row, "adapt", reason, node.span.safe()))
        else:
            row = _row(node, traces, context)
            # What stands twice in one value shares its offset: nothing later tells them apart.
            twins = seen.setdefault((node.span.row, row["event_id"]), [])
            if row in twins:
                skipped[words.TWICE] += 1
                continue
            twins.append(row)
            taken.append((node, row))
    if not taken:
        return refusals
    built = build_batch("tool_call", [row for _, row in taken])
    decoded.take(
        replace(built, failures=[]), np.array([node.span.row for node, _ in taken], dtype=np.int64)
    )
    return refusals + [
        Refusal(taken[at][0].span.row, stage, reason, taken[at][0].span.safe())
        for at, stage, reason in built.failures
    ]


def _why_skipped(node: Node) -> str:
    if node.part not in CALL_PARTS:
        return node.part
    if node.tool in words.NO_TOOLS:
        return words.SUMMARY
    if node.part == "agent" and not is_invocation(node):
        return words.AGENT_RUN
    return words.REPEATED if node.is_repeat else ""


def _row(node: Node, traces: Traces, context: Context) -> dict[str, Any]:
    span = node.span
    who = traces.who(node)
    if node.part == "agent" and node.above is not None:
        who = replace(traces.who(node.above), session=who.session, user=who.user)
    has_content = not words.CONTENT.isdisjoint(span.attributes)
    row = {
        "event_id": f"{span.trace_id}/{span.span_id}",
        "source": _source(node, context),
        "event_time": span.start_us,
        "observer": "gateway" if node.is_gateway else _OBSERVERS.get(node.part, "agent_runtime"),
        "tenant_id": context.tenant_id,
        "environment": span.resource.environment,
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_id,
        "call_id": call_id(node),
        "tool_name": node.tool,
        "outcome": _outcome(span),
        "operation": span.first(("mcp.method.name", "gen_ai.operation.name")),
        "resource": _resource(node),
        "action_class": _action_class(node),
        "args_hash": _digest(span, words.ARGUMENTS) if has_content else None,
        "result_hash": _digest(span, words.RESULT) if has_content else None,
        "ext": _ext(span),
    }
    row |= _agent_columns(node, who, traces)
    row |= _place_columns(node)
    return row


def _source(node: Node, context: Context) -> str:
    source = source_of(node)
    if node.span.resource.service is None and context.instance:
        return f"{source}:{context.instance}"
    return source


def _agent_columns(node: Node, who: Who, traces: Traces) -> dict[str, Any]:
    """Return who acts; a server's own service is not who called it."""
    span = node.span
    if who.agent is not None:
        agent = who.agent.agent
    elif node.part == "mcp_server":
        agent = span.first(words.PEER)
    else:
        agent = span.resource.agent or span.resource.service
    parent = who.parent.agent if who.parent else None
    if parent is None and who.agent is not None:
        parent = traces.asked_by(who.agent)
    is_own = node.part != "mcp_server"
    return {
        "agent_id": agent or "unknown",
        "agent_version": who.agent.first(words.AGENT_VERSION) if who.agent else None,
        "agent_instance": span.resource.instance if is_own else None,
        "workload_id": span.resource.workload if is_own else None,
        "parent_agent_id": parent,
        "session_id": who.session,
        "subject_id": who.user,
    }


def _place_columns(node: Node) -> dict[str, Any]:
    """Return where the tool is, from all spans of the call where this one does not say it."""
    columns: dict[str, Any] = {"tool_protocol": _protocol(node), "tool_server": _server(node)}
    if (node.same or node.below) and None in columns.values():
        told = observations(node)
        columns["tool_protocol"] = next(filter(None, map(_protocol, told)), None)
        columns["tool_server"] = next(filter(None, map(_server, told)), None)
    if node.part == "mcp_server":
        scopes = node.span.first(("enduser.scope",))
        columns["decision_effect"] = "deny" if _outcome(node.span) == "denied" else None
        columns["presented_scopes"] = scopes.split() if scopes else []
        columns["src_ip"] = node.span.first(("client.address",))
        columns["user_agent"] = node.span.first(("user_agent.original",))
    return columns


def _protocol(node: Node) -> str | None:
    attributes = node.span.attributes
    if "mcp.method.name" in attributes:
        transport = attributes.get("network.transport", "").lower()
        has_address = "server.address" in attributes or "network.protocol.name" in attributes
        return _TRANSPORTS.get(transport) or ("mcp_http" if has_address else None)
    is_function = attributes.get("gen_ai.tool.type") == "function" and not node.below
    return "function" if is_function else None


def _server(node: Node) -> str | None:
    if node.part == "mcp_server":
        return node.span.resource.service
    address: str | None = node.span.attributes.get("server.address")
    port = node.span.attributes.get("server.port")
    return f"{address}:{port}" if address and port else address


def _resource(node: Node) -> str | None:
    if node.part in {"agent", "create"}:
        return node.span.agent
    if node.part == "handoff":
        return node.span.first((words.HANDED_TO,))
    return node.span.first(words.RESOURCE)


def _action_class(node: Node) -> str | None:
    return _ACTIONS.get(node.part) or words.MCP_CALLS.get(
        node.span.attributes.get("mcp.method.name", "")
    )


def _outcome(span: Span) -> str:
    if span.status != "error" and words.SAYS_HOW_IT_ENDED.isdisjoint(span.attributes):
        return "unknown" if span.end_us is None else "success"
    told = {n: span.attributes[n] for n in words.STATUS_CODES.intersection(span.attributes)}
    if told and any(told.get(name) in codes for name, codes in _DENIED_CODES.items()):
        return "denied"
    if any(_DENIED.search(code) for code in told.values()):
        return "denied"
    is_wrong = span.status != "ok" and any(map(_is_error, told.items()))
    is_wrong = is_wrong or (span.first(words.TOOL_STATUS) or "").lower() in words.FAILED
    if span.status != "error" and "error.type" not in told and not is_wrong:
        # The convention: status stays unset where all went well.
        return "unknown" if span.end_us is None else "success"
    return "timeout" if any(map(_TIMEOUT.search, told.values())) else "failure"


def _is_error(told: tuple[str, str]) -> bool:
    """Return whether a code tells of an error where the status is unset."""
    name, code = told
    if not _NUMBER.fullmatch(code):
        return False
    if name == "rpc.jsonrpc.error_code":
        return int(code) != 0
    return name in {"http.response.status_code", "http.status_code"} and int(code) >= _HTTP_ERROR


def _digest(span: Span, names: tuple[str, ...]) -> str | None:
    """Return the digest of the first content there is; JSON in a text counts as what it says."""
    for name in names:
        content = span.attributes.get(name)
        if content is None:
            continue
        if isinstance(content, str) and content[:1] in "{[":
            try:
                content = parse_json(content.encode("utf-8", "surrogatepass"))
            except ValueError:
                return digest(content)
        return digest_or_none(content)
    return None


def _ext(span: Span) -> dict[str, str]:
    """Return what no column holds."""
    return {
        name: value
        for name, value in span.attributes.items()
        if name in words.EXT and (name not in words.STATUS_CODES or is_code(value))
    }
