"""ToolHive: audit events of the MCP gateway, as it writes them, one JSON object a line.

Every event is one tool call: calls refused before MCP was parsed are typed
`http_request`, and are calls as well.  The token's subject is the subject; the outermost
hop of its `act` claim acts, else the MCP client, else the subject itself.  The chain is
read from `delegation` (PR #6107) or `delegationChain` (PR #6046); one that was asserted
and could not be read keeps its reason, with no actor.  Beginning and end of a workflow or
of its step are one call.  The event names no token, so its credential is inferred.
Never reads `data` but for digests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = None

_OWN = {"outcome", "component", "subjects", "source"}
_EXTRA = {
    "duration_ms": "VARCHAR",
    "transport": "VARCHAR",
    "response_size_bytes": "VARCHAR",
    "backend_name": "VARCHAR",
    "jsonrpc_error_code": "VARCHAR",
    "mcp_version": "VARCHAR",
    "user_agent": "VARCHAR",
    "retry_count": "VARCHAR",
    "step_count": "VARCHAR",
}
SOURCE = SqlSource(
    name="toolhive",
    shape={
        "audit_id": "VARCHAR",
        "type": "VARCHAR",
        "logged_at": "VARCHAR",
        "loggedAt": "VARCHAR",
        "time": "VARCHAR",
        "outcome": "VARCHAR",
        "component": "VARCHAR",
        "source": {
            "type": "VARCHAR",
            "value": "VARCHAR",
            "extra": {"user_agent": "VARCHAR", "request_id": "VARCHAR", "session_id": "VARCHAR"},
        },
        "subjects": {
            "user_id": "VARCHAR",
            "user": "VARCHAR",
            "client_name": "VARCHAR",
            "client_version": "VARCHAR",
        },
        "delegation": "JSON",
        "delegationChain": "JSON",
        "delegation_chain": "JSON",
        "target": {
            "endpoint": "VARCHAR",
            "method": "VARCHAR",
            "type": "VARCHAR",
            "name": "VARCHAR",
            "uri": "VARCHAR",
            "resource_id": "VARCHAR",
            "workflow_id": "VARCHAR",
            "workflow_name": "VARCHAR",
            "step_id": "VARCHAR",
            "step_type": "VARCHAR",
            "tool_name": "VARCHAR",
        },
        "metadata": {
            "auditId": "VARCHAR",
            "audit_id": "VARCHAR",
            "duration_ms": "VARCHAR",
            "transport": "VARCHAR",
            "extra": _EXTRA,
        },
        "trace_id": "VARCHAR",
        "span_id": "VARCHAR",
    },
    digests={
        # The whole JSON-RPC message, or what stands for it where only that was logged.
        "arguments_hash": ("data", "request", "params", "arguments"),
        "request_hash": ("data", "request"),
        "response_hash": ("data", "response"),
    },
    hidden=(("data",), ("metadata", "extra"), ("delegationChain",), ("delegation_chain",)),
)


def recognises(record: object) -> bool:
    """Return whether a record has the members that every audit event of ToolHive has, but one."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("type"), str)
        # One without a member of its own is taken or refused here, and keeps no data.
        and isinstance(record.get("subjects"), dict)
        and len(record.keys() & _OWN) >= len(_OWN) - 1
    )


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return one tool call per event; a workflow's step that did not run is skipped."""
    return SOURCE.adapt(values, context)
