"""Which spans are calls, who made them, and which of them tell of one call.

Works on the spans of one batch.  A trace's spans may come in several: children end,
and are sent, before their parents.  So what names a call must not depend on it:
an MCP client span names its call by itself, an MCP server span by its parent, which is
the client's span wherever it came.  Only a tool span takes the name of the client span
below it, which the same process sends with it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from pipeline.ingest import otel_words as words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.ingest.otel_spans import Span

CALL_PARTS = ("tool", "mcp_client", "mcp_server", "retrieval", "create", "handoff", "agent")
_FIXED_NAMES = {
    "retrieval": "retrieval",
    "create": "create_agent",
    "handoff": "handoff",
    "agent": "invoke_agent",
}
_LAYERS = {"retrieval": "tool", "create": "agent", "handoff": "agent"}
_TOOL_AFTER = re.compile(r"(?:^|\s)(?:execute_tool|tools/call|running tool:)\s+(\S.*)$", re.DOTALL)
_MODEL_SIGNS = ("gen_ai.request.model", "gen_ai.system", "gen_ai.provider.name")
_MAX_ANCESTORS = 256
_TIMED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_DAY_MS = 86_400_000
_MADE_ID = re.compile(r"[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SUFFIX = re.compile(r"\.(?:tool|agent)$")

SpanKey = tuple[str | None, str | None]


@dataclass(slots=True)
class Who:
    """What a span and its ancestors say of who acts."""

    agent: Span | None = None
    """The span that names the agent best."""
    parent: Span | None = None
    """The same of the agent that asked for it."""
    session: str | None = None
    user: str | None = None


@dataclass(slots=True, eq=False)
class Node:
    """A span in its place."""

    span: Span
    part: str
    """One of CALL_PARTS, or the reason for which the span is skipped."""
    tool: str | None = None
    above: Node | None = None
    """The nearest span above that is a call or an agent's run."""
    same: Node | None = None
    """The span above that tells of the same call."""
    below: list[Node] = field(default_factory=list)
    """Spans right below that tell of the same call."""
    is_repeat: bool = False
    """Whether a span above of the same source tells of the same call."""
    is_gateway: bool = False
    """Whether the service that was asked called the same tool on."""
    who: Who | None = None


class Traces:
    """The spans of one batch by their ids."""

    def __init__(self, spans: list[Span]) -> None:
        self.nodes = [_node(span) for span in spans]
        self._known: dict[SpanKey, Node] = {}
        self._graph: dict[SpanKey, str] = {}
        self._handed: defaultdict[SpanKey, list[tuple[int, str, str]]] = defaultdict(list)
        for node in self.nodes:
            self._known.setdefault((node.span.trace_id, node.span.span_id), node)
            self._place(node.span)
        for handed in self._handed.values():
            handed.sort()
        calls = [node for node in self.nodes if node.part in CALL_PARTS]
        for node in calls:
            node.above = self._nearest(node)
        self._join(calls)

    def _place(self, span: Span) -> None:
        """Remember a span that says of two agents which came first."""
        attributes = span.attributes
        if words.NODE_ID in attributes and (name := span.agent):
            self._graph.setdefault((span.trace_id, attributes[words.NODE_ID]), name)
        if words.HANDED_BY in attributes and words.HANDED_TO in attributes:
            told = (span.start_us or 0, span.span_id or "", attributes[words.HANDED_BY])
            self._handed[span.trace_id, attributes[words.HANDED_TO]].append(told)

    def who(self, node: Node) -> Who:
        """Return who acts in a span, from its own attributes and those above it."""
        way = []
        at: Node | None = node
        while at is not None and at.who is None:
            at.who = Who()  # so that spans which name each other as parents end here
            way.append(at)
            at = self._parent(at)
        found = at.who if at is not None and at.who is not None else Who()
        for one in reversed(way):
            found = one.who = _narrow(found, one)
        return found

    def asked_by(self, span: Span) -> str | None:
        """Return who handed over to an agent whose run stands beside theirs, as far as told."""
        before = span.attributes.get(words.NODE_PARENT)
        if before is not None and before not in words.NODE_BEGINS:
            known = self._graph.get((span.trace_id, before))
            # An id that was made for a run names nobody.
            return known or (None if _MADE_ID.fullmatch(before) else before)
        handed = self._handed.get((span.trace_id, span.first(words.AGENT_NAME)), [])
        last = bisect_right(handed, span.start_us or 0, key=itemgetter(0))
        return handed[last - 1][2] if last else None

    def _parent(self, node: Node) -> Node | None:
        parent = node.span.parent_id
        return self._known.get((node.span.trace_id, parent)) if parent else None

    def _nearest(self, node: Node) -> Node | None:
        at = self._parent(node)
        for _ in range(_MAX_ANCESTORS):
            if at is None or at is node:
                return None
            if at.part in CALL_PARTS:
                return at
            at = self._parent(at)
        return None

    def _join(self, calls: list[Node]) -> None:
        by_tool_call: dict[tuple[str | None, str | None], Node] = {}
        for node in calls:
            if node.part == "tool":
                key = (node.span.trace_id, node.span.first(words.TOOL_CALL_ID))
                by_tool_call.setdefault(key, node)
        for node in calls:
            above = node.above
            if node.part == "mcp_client" and (above is None or above.part == "agent"):
                tool_call = node.span.first(words.TOOL_CALL_ID)
                above = by_tool_call.get((node.span.trace_id, tool_call)) if tool_call else None
            if above is None or node in _upward(above):
                continue
            server = _passed_on_by(node)
            if server is not None:
                server.is_gateway = True
            elif _is_same_call(above, node):
                node.same = above
                above.below.append(node)
        for node in calls:
            if node.same is not None:
                node.is_repeat = source_of(node) in map(source_of, _upward(node.same))


def call_id(node: Node) -> str:
    """Return the name that all observations of a call share."""
    client = _client_of(node) if node.same or node.below or node.part == "mcp_client" else None
    if client is not None:
        return f"{client.span.trace_id}/{client.span.span_id}"
    if node.part == "mcp_server" and node.same is None and node.span.parent_id:
        return f"{node.span.trace_id}/{node.span.parent_id}"
    top = _upward(node)[-1].span
    return f"{top.trace_id}/{top.span_id}"


def observations(node: Node) -> list[Node]:
    """Return the spans above and below that tell of the same call, this one first."""
    found = _upward(node)
    waiting = list(node.below)
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += one.below
    return found


def is_invocation(node: Node) -> bool:
    """Return whether an agent's run shows that another agent asked for it.

    Where a tool call stands between the two, that is what asked for it.
    """
    return node.above is not None and node.above.part == "agent" and not _is_same_run(node)


def _is_same_run(node: Node) -> bool:
    """Return whether a run's span stands right below another of the same run."""
    above = node.above
    is_run = node.part == "agent" and above is not None and above.part == "agent"
    return is_run and above is not None and _is_same_agent(above.span, node.span)


def agent_of(span: Span) -> str | None:
    """Return the id of the agent that a span names, else its name."""
    if words.NAMES_AGENT.isdisjoint(span.attributes):
        return None
    run = run_of(span)
    named = None if run else span.first(words.AGENT_ID)
    return named or span.first(words.AGENT_NAME) or _name_of_run(span) or run


def _name_of_run(span: Span) -> str | None:
    """Return the agent's name that the span of its run bears where others have none."""
    attributes = span.attributes
    if attributes.get("traceloop.span.kind", "").lower() == "agent":
        return span.first(("traceloop.entity.name",))
    if attributes.get("langfuse.observation.type", "").lower() == "agent":
        return span.name or None
    if attributes.get("openinference.span.kind", "").lower() != "agent":
        return None
    named = (attributes.get(name) for name in words.NODE_NAME)
    return next((one for one in named if one and not _MADE_ID.fullmatch(one)), None)


def run_of(span: Span) -> str | None:
    """Return the id of an agent that is but that of its run: a UUID of the same day.

    A time stands in a UUID of version 7; no deployed agent is made as its span begins.
    """
    given = span.first(words.AGENT_ID)
    if given is None or _TIMED.fullmatch(given) is None or span.start_us is None:
        return None
    made_ms = int(given.replace("-", "")[:12], 16)
    return given if abs(span.start_us // 1000 - made_ms) < _DAY_MS else None


def source_of(node: Node) -> str:
    """Return who observed a call: the layer and the library, at a service."""
    layer = _LAYERS.get(node.part, node.part)
    system = f"otel.{layer}.{node.span.scope}" if node.span.scope else f"otel.{layer}"
    service = node.span.resource.service
    return f"{system}:{service}" if service else system


def _node(span: Span) -> Node:
    span.agent = agent_of(span)
    part = _part(span)
    tool = _tool_name(span, part) if part in CALL_PARTS else None
    return Node(span, part, tool)


def _part(span: Span) -> str:
    attributes = span.attributes
    if not attributes:
        return words.OTHER
    method = attributes.get("mcp.method.name")
    if method is not None:
        if method not in words.MCP_CALLS:
            return words.MESSAGE
        return f"mcp_{span.kind}" if span.kind in {"client", "server"} else "tool"
    operation = attributes.get("gen_ai.operation.name")
    if operation is not None and operation.lower() in words.OPERATIONS:
        part = words.OPERATIONS[operation.lower()]
        if part == "retrieval" and "gen_ai.data_source.id" not in attributes:
            return words.OTHER
        return words.MADE_HERE if part == "create" and span.kind == "internal" else part
    return _part_by_library(span)


def _part_by_library(span: Span) -> str:
    attributes = span.attributes
    kind = _kind(attributes)
    if kind is not None:
        # A whole run of several agents is an AGENT, too, and names none.
        return words.STEP if kind == "agent" and span.agent is None else kind
    if any(name in attributes for name in words.TOOL_SIGNS):
        return f"mcp_{span.kind}" if _is_mcp_tool(span) else "tool"
    if span.first(words.AGENT_NAME) and span.name.startswith(("invoke_agent", "agent run")):
        return "agent"
    if any(name in attributes for name in _MODEL_SIGNS):
        return words.MODEL_CALL
    return words.OTHER


def _kind(attributes: Mapping[str, str]) -> str | None:
    """Return the part that a library says a span is, None where none says it."""
    told = [attributes[name] for name in words.KINDS if name in attributes]
    for kind in told:
        # MLflow writes it as JSON.
        part = words.LIBRARY_KINDS.get(kind.strip('"').lower())
        if part is not None:
            return part
    if attributes.get(words.KIND_OF_CLAUDE_CODE) == "tool" and "tool_name" in attributes:
        return "tool"
    has_tool = any(name in attributes for name in words.TOOL_SIGNS)
    return words.OTHER if told and not has_tool else None


def _is_mcp_tool(span: Span) -> bool:
    return "mcp.tool.name" in span.attributes and span.kind in {"client", "server"}


def _tool_name(span: Span, part: str) -> str | None:
    if part in _FIXED_NAMES:
        return _FIXED_NAMES[part]
    method = span.attributes.get("mcp.method.name")
    if method is not None and method != "tools/call":
        return str(method)
    named = span.first(words.TOOL_NAME)
    if named:
        return named
    told = _TOOL_AFTER.search(span.name)
    if told:
        return told.group(1).strip()
    named = span.first(("traceloop.entity.name",))
    is_named_so = any(name in span.attributes for name in words.KINDS)
    return named or (_SUFFIX.sub("", span.name) if is_named_so else None) or None


def _is_same_call(above: Node, node: Node) -> bool:
    if above.tool is None or above.tool != node.tool:
        return False
    is_other_library = above.span.scope != node.span.scope
    match above.part, node.part:
        case ("tool", "tool"):
            tool_call = node.span.first(words.TOOL_CALL_ID)
            return is_other_library or (
                tool_call is not None and tool_call == above.span.first(words.TOOL_CALL_ID)
            )
        case ("tool", "mcp_client" | "mcp_server") | ("mcp_client", "mcp_client" | "mcp_server"):
            return True
        case ("mcp_server", "tool"):
            # A server that passes a request on within itself, or runs the tool.
            return above.span.resource.service == node.span.resource.service
        case ("mcp_client", "tool"):
            # A server whose own span is missing.
            return above.span.resource.service != node.span.resource.service
        case _:
            return False


def _passed_on_by(node: Node) -> Node | None:
    """Return the server's span whose service calls the same tool on, where this is that call."""
    at = node.above if node.part == "mcp_client" else None
    for _ in range(_MAX_ANCESTORS):
        if (
            at is None
            or at.tool != node.tool
            or at.span.resource.service != node.span.resource.service
        ):
            return None
        if at.part != "tool":
            return at if at.part == "mcp_server" else None
        at = at.above
    return None


def _upward(node: Node) -> list[Node]:
    """Return a span and those above it that tell of the same call; joining makes no rings."""
    found = [node]
    while found[-1].same is not None:
        found.append(found[-1].same)
    return found


def _client_of(node: Node) -> Node | None:
    """Return the client span next to the wire: above a server's span, or the last one below."""
    above = _upward(node)[1:]
    if any(one.part == "mcp_server" for one in [node, *above]):
        return next((one for one in above if one.part == "mcp_client"), None)
    clients = [one for one in (node, *observations(node)[len(above) + 1 :]) if _is_last(one)]
    return max(
        clients, key=lambda one: (one.span.start_us or 0, one.span.span_id or ""), default=None
    )


def _is_last(node: Node) -> bool:
    return node.part == "mcp_client" and all(one.part != "mcp_client" for one in node.below)


def _narrow(found: Who, node: Node) -> Who:
    """Return who acts in a span, given who acts in the one above it."""
    span = node.span
    if words.NAMES_ANYBODY.isdisjoint(span.attributes):
        return found
    agent, parent = found.agent, found.parent
    if node.part != "create" and span.agent:
        if agent is None:
            agent = span
        elif not _is_same_agent(agent, span) or (node.part == "agent" and not _is_same_run(node)):
            agent, parent = span, agent
        elif span.first(words.AGENT_ID) and not run_of(span) and not agent.first(words.AGENT_ID):
            agent = span
    return Who(
        agent,
        parent,
        span.first(words.SESSION) or found.session or span.first(words.MCP_SESSION),
        span.first(words.USER) or found.user,
    )


def _is_same_agent(one: Span, other: Span) -> bool:
    mine, theirs = one.first(words.AGENT_ID), other.first(words.AGENT_ID)
    if mine and theirs and not (run_of(one) or run_of(other)):
        return mine == theirs
    mine, theirs = one.first(words.AGENT_NAME), other.first(words.AGENT_NAME)
    return bool(mine) and mine == theirs
