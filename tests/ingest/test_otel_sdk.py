"""What the OpenTelemetry SDK itself writes, with the constants of its conventions."""

import io
import json
import warnings

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from pipeline.ingest.file_records import read_records
from pipeline.ingest.sources import otel_genai
from tests.ingest.otlp import adapt, rows_of

with warnings.catch_warnings():
    # Deprecated where they stand, for they moved; the names are still written.
    warnings.simplefilter("ignore", DeprecationWarning)
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
    from opentelemetry.semconv._incubating.attributes import mcp_attributes as mcp
    from opentelemetry.semconv._incubating.attributes.user_attributes import USER_ID
    from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

CONTENT = "do-not-store"


@pytest.fixture(scope="module")
def told():
    """Return the finished spans of one run, and what the console exporter printed of them."""
    memory, printed = InMemorySpanExporter(), io.StringIO()
    resource = Resource.create({"service.name": "desk", "deployment.environment.name": "test"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=printed)))
    tell(provider)
    provider.shutdown()
    return memory.get_finished_spans(), printed.getvalue().encode()


def tell(provider):
    """Run a planner that asks a helper, whose tool is reached over MCP and refuses."""
    agents, wire = provider.get_tracer("agents", "1"), provider.get_tracer("mcp", "2")
    with (
        agents.start_as_current_span("POST /ask", kind=SpanKind.SERVER, attributes={USER_ID: "u"}),
        agents.start_as_current_span("invoke_agent planner", attributes=run("planner")),
        agents.start_as_current_span("chat m", kind=SpanKind.CLIENT, attributes=chat()),
    ):
        pass
    with (
        agents.start_as_current_span("invoke_agent planner", attributes=run("planner")),
        agents.start_as_current_span("execute_tool ask_helper", attributes=tool("ask_helper")),
        agents.start_as_current_span("invoke_agent helper", attributes=run("helper")),
        agents.start_as_current_span("execute_tool erase", attributes=tool("erase")) as outer,
        wire.start_as_current_span(
            "tools/call erase",
            kind=SpanKind.CLIENT,
            attributes={mcp.MCP_METHOD_NAME: "tools/call", gen_ai.GEN_AI_TOOL_NAME: "erase"},
        ) as inner,
    ):
        for span in (outer, inner):
            span.set_attribute(ERROR_TYPE, "permission_denied")
            span.set_status(Status(StatusCode.ERROR, CONTENT))
            span.record_exception(RuntimeError(CONTENT))


def run(name):
    return {
        gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.INVOKE_AGENT.value,
        gen_ai.GEN_AI_AGENT_NAME: name,
        gen_ai.GEN_AI_CONVERSATION_ID: "conv",
        gen_ai.GEN_AI_INPUT_MESSAGES: CONTENT,
    }


def tool(name):
    return {
        gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.EXECUTE_TOOL.value,
        gen_ai.GEN_AI_TOOL_NAME: name,
        gen_ai.GEN_AI_TOOL_CALL_ID: f"call_{name}",
        gen_ai.GEN_AI_TOOL_CALL_ARGUMENTS: json.dumps({"q": CONTENT}),
    }


def chat():
    return {
        gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.CHAT.value,
        gen_ai.GEN_AI_REQUEST_MODEL: "m",
        gen_ai.GEN_AI_OUTPUT_MESSAGES: CONTENT,
    }


def as_protobuf(told, tmp_path):
    return [encode_spans(told[0]).SerializeToString()]


def as_printed(told, tmp_path):
    path = tmp_path / "console.json"
    path.write_bytes(told[1])
    return list(read_records(path, otel_genai.WRAPPER))


def as_lines(told, tmp_path):
    path = tmp_path / "spans.jsonl"
    path.write_text("\n".join(span.to_json(indent=None) for span in told[0]), encoding="utf-8")
    return list(read_records(path, otel_genai.WRAPPER))


@pytest.mark.parametrize("form", [as_protobuf, as_printed, as_lines])
def test_whatever_the_sdk_writes_tells_the_same_calls(told, tmp_path, form):
    adapted = adapt(*form(told, tmp_path))

    found = sorted(rows_of(adapted), key=lambda row: (row["event_time"], row["source"]))
    assert [(r["tool_name"], r["agent_id"], r["parent_agent_id"], r["outcome"]) for r in found] == [
        ("ask_helper", "planner", None, "success"),
        ("erase", "helper", "planner", "denied"),
        ("erase", "helper", "planner", "denied"),
    ]
    assert len({row["call_id"] for row in found}) == 2
    assert len({row["source"] for row in found[1:]}) == 2
    assert {(row["session_id"], row["environment"]) for row in found} == {("conv", "test")}
    assert adapted.skipped.total() == len(told[0]) - len(found)
    assert CONTENT not in repr(found)


def test_what_the_sdk_prints_is_recognised(told, tmp_path):
    assert all(otel_genai.recognises(json.loads(one)) for one in as_printed(told, tmp_path))
    assert otel_genai.recognises(*as_protobuf(told, tmp_path))
