"""The words of OpenTelemetry's agents: which attributes are read, and what spans are told by.

Both generations of the GenAI and MCP conventions, and what libraries wrote before
or beside them: OpenInference, OpenLLMetry (`traceloop.*`), any-agent, pydantic-ai,
Google ADK, Vercel's AI SDK, Spring AI, Langfuse, LangSmith, MLflow, LoongSuite,
Strands, Claude Code.  Of several spellings the first that is there counts.
"""

from __future__ import annotations

AGENT_ID = ("gen_ai.agent.id",)
AGENT_NAME = (
    "gen_ai.agent.name",
    "agent.name",
    "agent_name",
    "traceloop.association.properties.lc_agent_name",
    "lc_agent_name",
)
NODE_NAME = ("graph.node.name", "graph.node.id")
"""OpenInference: the node of an agent's run, in a graph of runs that may stand side by side."""
NODE_ID, NODE_PARENT = "graph.node.id", "graph.node.parent_id"
NODE_BEGINS = frozenset({"start", "__start__"})
"""What a graph's first node names as the one before it."""
HANDED_BY, HANDED_TO = "gen_ai.handoff.from_agent", "gen_ai.handoff.to_agent"
AGENT_VERSION = ("gen_ai.agent.version",)
SESSION = (
    "gen_ai.conversation.id",
    "session.id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.thread_id",
    "ai.telemetry.metadata.sessionId",
    "gen_ai.session.id",
    "langfuse.session.id",
)
MCP_SESSION = ("mcp.session.id",)
"""Of older revisions, between one client and one server: where nothing else is told."""
USER = (
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
    "gen_ai.user.id",
)
TOOL_NAME = (
    "gen_ai.tool.name",
    "tool.name",
    "ai.toolCall.name",
    "mcp.tool.name",
    "spring.ai.tool.definition.name",
    "tool_name",
)
TOOL_SIGNS = ("ai.toolCall.name", "gen_ai.tool.name", "mcp.tool.name")
"""Where one is, a span without any kind is a tool's."""
TOOL_CALL_ID = ("gen_ai.tool.call.id", "tool_call.id", "ai.toolCall.id")
ERROR_FLAG = "mcp.tool.result.is_error"
"""Sentry's: `isError` of an MCP answer, a boolean."""
TOOL_STATUS = ("gen_ai.tool.status", "tool.status", ERROR_FLAG)
"""Strands: how a tool ended, where the span's own status tells of the framework alone."""
FAILED = frozenset({"error", "failed", "failure"})
NO_TOOLS = frozenset({"(merged tools)"})
"""Google ADK: a summary of calls that have spans of their own."""
RESOURCE = ("mcp.resource.uri", "gen_ai.prompt.name", "mcp.prompt.name", "gen_ai.data_source.id")
PEER = ("service.peer.name", "peer.service")

ARGUMENTS = (
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.args",
    "tool_arguments",
    "mcp.request.argument",
    "gcp.vertex.agent.tool_call_args",
    "ai.toolCall.args",
    "input.value",
    "traceloop.entity.input",
    "spring.ai.tool.call.arguments",
    "langfuse.observation.input",
    "mlflow.spanInputs",
)
RESULT = (
    "gen_ai.tool.call.result",
    "gen_ai.output",
    "tool_response",
    "mcp.response.value",
    "gcp.vertex.agent.tool_response",
    "ai.toolCall.result",
    "output.value",
    "traceloop.entity.output",
    "spring.ai.tool.call.result",
    "langfuse.observation.output",
    "mlflow.spanOutputs",
)

EXT = frozenset(
    {
        "enduser.scope",
        "error.type",
        "gen_ai.agent.call.id",
        "gen_ai.agent.name",
        "gen_ai.provider.name",
        "gen_ai.system",
        "gen_ai.tool.call.id",
        "gen_ai.tool.type",
        "http.response.status_code",
        "jsonrpc.request.id",
        "mcp.protocol.version",
        "rpc.response.status_code",
    }
)
"""Kept under `ext` where no column holds them; names and codes, never content."""

STATUS_CODES = frozenset(
    {
        "error.type",
        "rpc.response.status_code",
        "rpc.grpc.status_code",
        "rpc.jsonrpc.error_code",
        "http.response.status_code",
        "http.status_code",
    }
)

SAYS_HOW_IT_ENDED = STATUS_CODES.union(TOOL_STATUS)

CONTENT = frozenset(ARGUMENTS + RESULT)
"""Read for their digest alone."""

KINDS = (
    "openinference.span.kind",
    "traceloop.span.kind",
    "gen_ai.span.kind",
    "langfuse.observation.type",
    "langsmith.span.kind",
    "mlflow.spanType",
    "spring.ai.kind",
)
"""Where libraries say what a span is, see `LIBRARY_KINDS`."""
NAMES_AGENT = frozenset(
    (*AGENT_ID, *AGENT_NAME, *NODE_NAME, "traceloop.entity.name", "langfuse.observation.type")
)
"""Where none of these is, a span names no agent."""
NAMES_ANYBODY = NAMES_AGENT.union(SESSION, MCP_SESSION, USER)
"""Where none of these is, a span says nothing of who acts."""
KIND_OF_CLAUDE_CODE = "span.type"
"""Too common a name to mean the same elsewhere: counts beside a tool's name only."""

READ = frozenset(
    (
        *AGENT_ID,
        *AGENT_NAME,
        *NODE_NAME,
        NODE_PARENT,
        HANDED_BY,
        HANDED_TO,
        *KINDS,
        KIND_OF_CLAUDE_CODE,
        *TOOL_STATUS,
        *AGENT_VERSION,
        *SESSION,
        *MCP_SESSION,
        *USER,
        *TOOL_NAME,
        *TOOL_CALL_ID,
        *PEER,
        *EXT,
        *STATUS_CODES,
        *CONTENT,
        "client.address",
        "gen_ai.data_source.id",
        "gen_ai.operation.name",
        "gen_ai.prompt.name",
        "mcp.prompt.name",
        "gen_ai.request.model",
        "mcp.method.name",
        "mcp.resource.uri",
        "metadata",
        "network.protocol.name",
        "network.transport",
        "server.address",
        "server.port",
        "traceloop.entity.name",
        "user_agent.original",
    )
)
"""Of a span's attributes; all others stay unread."""

READ_OF_RESOURCE = frozenset(
    {
        "cloud.resource_id",
        "deployment.environment",
        "deployment.environment.name",
        "gen_ai.agent.id",
        "gen_ai.agent.name",
        "gen_ai.agent.version",
        "k8s.cluster.name",
        "k8s.cronjob.name",
        "k8s.daemonset.name",
        "k8s.deployment.name",
        "k8s.job.name",
        "k8s.namespace.name",
        "k8s.pod.name",
        "k8s.statefulset.name",
        "service.instance.id",
        "service.name",
        "service.namespace",
    }
)

HIDDEN = (("attributes",), ("events",), ("status",))
"""Members of a span that no dead letter keeps where it cannot be read."""

KEPT_UNREAD = (READ - CONTENT - {"error.type", "mcp.resource.uri", "metadata"}) | READ_OF_RESOURCE
"""What a dead letter keeps of an export that cannot be read: names, never what may be content."""

WORKLOADS = tuple(
    f"k8s.{kind}.name"
    for kind in ("deployment", "statefulset", "daemonset", "cronjob", "job", "pod")
)

MODEL_CALL = "a call of a model"
AGENT_RUN = "an agent's run whose caller is not shown, or is the tool call above it"
MADE_HERE = "an agent made within its process"
STEP = "a workflow or a step of it"
MESSAGE = "an MCP message that calls nothing"
REPEATED = "an inner span of the same call by the same library"
SUMMARY = "a summary of tool calls that have spans of their own"
TWICE = "a span that stands twice in one value"
OTHER = "a span of no agent"
NO_SPANS = "an export without spans"

MCP_CALLS = {"tools/call": None, "resources/read": "read", "prompts/get": "read"}
"""MCP methods that are calls, with what they do where the method says it."""

OPERATIONS = {
    "execute_tool": "tool",
    "retrieval": "retrieval",
    "invoke_agent": "agent",
    "create_agent": "create",
    "handoff": "handoff",
    "invoke_workflow": STEP,
    "call_llm": MODEL_CALL,
    "chat": MODEL_CALL,
    "completion": MODEL_CALL,
    "embeddings": MODEL_CALL,
    "generate_content": MODEL_CALL,
    "image_generation": MODEL_CALL,
    "text_completion": MODEL_CALL,
}
"""`gen_ai.operation.name` of both generations, and any-agent's own, to the part of a span."""

LIBRARY_KINDS = {
    "agent": "agent",
    "chain": STEP,
    "chat_client": STEP,
    "chat_model": MODEL_CALL,
    "embedding": MODEL_CALL,
    "generation": MODEL_CALL,
    "handoff": "handoff",
    "llm": MODEL_CALL,
    "mcp_server_tool_call": "tool",
    "reranker": MODEL_CALL,
    "task": STEP,
    "tool": "tool",
    "tool_call": "tool",
    "workflow": STEP,
}
"""What stands under `KINDS`, in small letters, to the part of a span."""

ENVIRONMENTS = {
    "prod": "prod",
    "production": "prod",
    "stage": "stage",
    "staging": "stage",
    "dev": "dev",
    "development": "dev",
    "test": "test",
    "testing": "test",
}
