"""What becomes of spans: who acts, how it ended, and what is kept of it."""

import hashlib
import json

import pytest

from pipeline.ingest.json_text import digest
from pipeline.ingest.sources import Context, otel_genai
from tests.ingest.otlp import MCP, RUN, START, TOOL, TRACE, adapt, export, row, rows, span

HELPER = RUN | {"gen_ai.agent.name": "helper", "gen_ai.agent.id": "agt_2"}


def test_a_tool_span_says_when_where_and_what():
    found = row(
        export(
            span(7, 5, attributes=TOOL | {"gen_ai.tool.type": "function"}),
            service_namespace="retail",
            service_instance_id="desk-1",
            deployment_environment_name="Production",
            k8s_namespace_name="agents",
            k8s_pod_name="desk-1",
        )
    )

    assert found["event_id"] == f"{TRACE}/{7:016x}"
    assert found["event_time"].isoformat() == "2026-01-02T10:00:00.007000+00:00"
    assert (found["trace_id"], found["span_id"], found["parent_span_id"]) == (
        TRACE,
        f"{7:016x}",
        f"{5:016x}",
    )
    assert (found["tool_name"], found["tool_protocol"]) == ("search", "function")
    assert (found["source"], found["observer"]) == ("otel.tool.lib:retail/desk", "agent_runtime")
    assert (found["environment"], found["workload_id"]) == ("prod", "agents/desk-1")
    assert found["agent_instance"] == "desk-1"


def test_the_agent_is_the_run_above_and_its_parent_the_run_above_that():
    _, found = rows(
        export(
            span(3, 2, attributes=HELPER),
            span(2, 1, attributes={"gen_ai.operation.name": "chat"}),
            span(4, 3),
        ),
        export(span(1, attributes=RUN | {"gen_ai.conversation.id": "c-1", "user.id": "mara"})),
    )

    assert (found["agent_id"], found["parent_agent_id"]) == ("agt_2", "planner")
    assert (found["session_id"], found["subject_id"]) == ("c-1", "mara")


def test_an_agent_that_a_tool_span_names_needs_no_run_above():
    found = row(export(span(4, 3, attributes=TOOL | {"gen_ai.agent.name": "planner"})))

    assert (found["agent_id"], found["parent_agent_id"]) == ("planner", None)


def test_a_name_on_the_tool_span_is_the_agent_whose_id_stands_above():
    own = TOOL | {"gen_ai.agent.name": "helper"}

    found = row(export(span(2, 1, attributes=own), span(1, attributes=HELPER)))

    assert (found["agent_id"], found["parent_agent_id"]) == ("agt_2", None)


def test_an_agent_that_asks_itself_through_a_tool_is_its_own_parent():
    runs = span(3, 2, attributes=HELPER), span(1, attributes=HELPER)

    _, found = rows(export(span(2, 1), span(4, 3), *runs))

    assert (found["agent_id"], found["parent_agent_id"]) == ("agt_2", "agt_2")


@pytest.mark.parametrize(
    ("name", "attributes", "agent"),
    [
        ("helper", {"langfuse.observation.type": "agent"}, "helper"),
        ("x", {"openinference.span.kind": "AGENT", "graph.node.id": "helper"}, "helper"),
        ("x", {"openinference.span.kind": "AGENT", "graph.node.name": "helper"}, "helper"),
        ("x", {"openinference.span.kind": "AGENT", "graph.node.id": "0f3c9a1b2d4e5f60"}, "desk"),
        ("x", {"traceloop.span.kind": "agent", "traceloop.entity.name": "helper"}, "helper"),
    ],
)
def test_a_run_that_names_its_agent_in_a_library_s_way(name, attributes, agent):
    found = row(export(span(2, 1), span(1, name=name, attributes=attributes)))

    assert found["agent_id"] == agent


def test_an_agent_that_the_resource_names_acts_where_no_span_names_one():
    named = TOOL | {"gen_ai.agent.name": "helper"}
    values = export(span(2, 1), span(3, 1, attributes=named))

    found = rows(values.replace(b'"service.name"', b'"gen_ai.agent.id"'))

    assert [one["agent_id"] for one in found] == ["desk", "helper"]


def test_an_agent_s_id_further_down_names_it_better_than_its_name_above():
    inner = RUN | {"gen_ai.agent.id": "agt_1", "gen_ai.agent.version": "3"}

    found = row(export(span(3, 2), span(2, 1, attributes=inner), span(1, attributes=RUN)))

    assert (found["agent_id"], found["agent_version"]) == ("agt_1", "3")


def test_an_older_run_is_told_by_its_span_s_name():
    old = {"agent_name": "planner", "gen_ai.usage.input_tokens": 5}

    found = row(export(span(2, 1), span(1, name="agent run", attributes=old)))

    assert found["agent_id"] == "planner"


def test_two_spans_of_one_run_are_no_agent_that_asks_itself():
    run_id = f"{START // 10**6:012x}"
    inner = RUN | {"gen_ai.agent.id": f"{run_id[:8]}-{run_id[8:]}-775e-a4c8-981319f3fd73"}

    found = row(export(span(3, 2), span(2, 1, attributes=inner), span(1, attributes=RUN)))

    assert (found["agent_id"], found["parent_agent_id"]) == ("planner", None)


@pytest.mark.parametrize(
    ("agent_id", "agent"),
    [
        (f"{START // 10**6:012x}"[:8] + "-b2c7-775e-a4c8-981319f3fd73", "planner"),
        ("0192f3a0-b2c7-775e-a4c8-981319f3fd73", "0192f3a0-b2c7-775e-a4c8-981319f3fd73"),
        ("5e8f2a10-b2c7-475e-a4c8-981319f3fd73", "5e8f2a10-b2c7-475e-a4c8-981319f3fd73"),
    ],
    ids=["made with the run", "made long before", "not timed"],
)
def test_an_agent_s_id_that_is_made_for_the_run_is_not_the_agent(agent_id, agent):
    found = row(export(span(2, 1), span(1, attributes=RUN | {"gen_ai.agent.id": agent_id})))

    assert found["agent_id"] == agent


@pytest.mark.parametrize(
    ("metadata", "agent"),
    [
        ('{"lc_agent_name": "desk-agent"}', "desk-agent"),
        ("{", "desk"),
        ("[]", "desk"),
        ("7", "desk"),
    ],
)
def test_langchain_s_agent_stands_in_the_metadata(metadata, agent):
    found = row(export(span(2, attributes=TOOL | {"metadata": metadata})))

    assert (found["agent_id"], found["ext"]) == (agent, {})


def test_an_agent_made_in_process_is_no_call_and_one_made_at_a_service_is():
    making = {"gen_ai.operation.name": "create_agent", "gen_ai.agent.name": "owl"}
    here, there = (
        adapt(export(span(1, kind=kind, attributes=making))) for kind in ("internal", "client")
    )

    assert here.skipped == {"an agent made within its process": 1}
    assert [batch.batch.num_rows for batch in there.batches] == [1]


def test_where_no_agent_is_shown_the_service_acts():
    found = row(export(span(2, 1)))

    assert found["agent_id"] == "desk"


def test_a_service_name_that_the_sdk_made_up_is_nobody_and_the_instance_stands_in():
    found = row(export(span(2, 1), service_name="unknown_service:python"), instance="lab")

    assert (found["agent_id"], found["source"]) == ("unknown", "otel.tool.lib:lab")


def test_a_server_s_own_service_is_not_who_called_it():
    found = row(export(span(2, 1, kind="server", attributes=MCP), service_instance_id="s-1"))

    assert (found["agent_id"], found["tool_server"]) == ("unknown", "desk")
    assert (found["agent_instance"], found["workload_id"]) == (None, None)


def test_spans_that_name_each_other_as_parents_are_taken_like_others():
    ring = [
        span(1, 3),
        span(2, 1, kind="client", attributes=MCP),
        span(3, 2, kind="server", attributes=MCP),
        span(4, 4, attributes=RUN),
    ]

    assert {one["span_id"][-1] for one in rows(export(*ring))} == {"1", "2", "3"}


def test_an_agent_asked_by_another_is_a_call_of_the_other():
    found = row(export(span(2, 1, attributes=HELPER), span(1, attributes=RUN)))

    assert (found["agent_id"], found["tool_name"]) == ("planner", "invoke_agent")
    assert (found["resource"], found["operation"]) == ("agt_2", "invoke_agent")


def test_agents_side_by_side_in_a_run_that_names_nobody_ask_each_other_as_they_say():
    whole = span(1, attributes={"openinference.span.kind": "AGENT"})
    boss = span(2, 1, attributes={"openinference.span.kind": "AGENT", "agent.name": "boss"})
    handing = span(3, 2, name="handoff to helper", attributes={"openinference.span.kind": "TOOL"})
    said = {"agent.name": "helper", "graph.node.parent_id": "boss"}
    helper = span(4, 1, attributes={"openinference.span.kind": "AGENT"} | said)

    found = rows(export(span(5, 4), handing, boss, helper, whole))

    assert [(one["tool_name"], one["agent_id"], one["parent_agent_id"]) for one in found] == [
        ("search", "helper", "boss"),
        ("handoff to helper", "boss", None),
    ]


def test_a_handoff_is_a_call_and_names_the_parent_of_the_agent_whose_run_began_after_it():
    handing = {
        "gen_ai.operation.name": "handoff",
        "gen_ai.handoff.from_agent": "boss",
        "gen_ai.handoff.to_agent": "helper",
    }
    boss, helper = RUN | {"gen_ai.agent.name": "boss"}, RUN | {"gen_ai.agent.name": "helper"}
    earlier = [span(3, 2), span(2, attributes=helper)]
    later = [span(6, 5, attributes=handing), span(5, attributes=boss)]

    found = rows(export(*earlier, *later, span(9, 8), span(8, attributes=helper)))

    assert [(one["tool_name"], one["agent_id"], one["parent_agent_id"]) for one in found] == [
        ("search", "helper", None),
        ("handoff", "boss", None),
        ("search", "helper", "boss"),
    ]
    assert found[1]["resource"] == "helper"


@pytest.mark.parametrize(
    ("before", "parent"),
    [("aa3c9a1b2d4e5f60", "team"), ("bb3c9a1b2d4e5f60", None), ("start", None)],
)
def test_a_node_s_id_that_was_made_for_a_run_names_the_parent_only_where_its_span_is(
    before, parent
):
    kind = {"openinference.span.kind": "AGENT"}
    team = kind | {"agent.name": "team", "graph.node.id": "aa3c9a1b2d4e5f60"}
    member = kind | {"agent.name": "member", "graph.node.parent_id": before}

    found = row(export(span(1, attributes=team), span(3, 2), span(2, attributes=member)))

    assert (found["agent_id"], found["parent_agent_id"]) == ("member", parent)


def test_a_summary_of_several_tools_is_counted():
    merged = TOOL | {"gen_ai.tool.name": "(merged tools)"}

    adapted = adapt(export(span(1), span(2, attributes=merged)))

    assert [batch.batch.num_rows for batch in adapted.batches] == [1]
    assert adapted.skipped == {"a summary of tool calls that have spans of their own": 1}


def test_a_port_that_is_sent_as_a_double_is_a_port():
    place = MCP | {"server.address": "t.example", "server.port": 443.0}

    assert row(export(span(2, kind="client", attributes=place)))["tool_server"] == "t.example:443"


def test_an_agent_asked_through_a_tool_is_told_by_the_tool_call_alone():
    adapted = adapt(
        export(span(3, 2, attributes=HELPER), span(2, 1), span(1, attributes=RUN)),
    )

    assert [batch.batch.num_rows for batch in adapted.batches] == [1]
    assert adapted.skipped.total() == 2


@pytest.mark.parametrize(
    ("attributes", "status", "outcome"),
    [
        ({}, {}, "success"),
        ({}, {"code": 1}, "success"),
        ({}, {"code": "STATUS_CODE_OK"}, "success"),
        ({}, {"code": 2}, "failure"),
        ({}, {"code": "STATUS_CODE_ERROR"}, "failure"),
        ({"error.type": "tool_error"}, {}, "failure"),
        ({"error.type": "ToolRetryError"}, {"code": 2}, "failure"),
        ({"error.type": "TimeoutError"}, {"code": 2}, "timeout"),
        ({"error.type": "DEADLINE_EXCEEDED"}, {"code": 2}, "timeout"),
        ({"error.type": "PermissionDenied"}, {"code": 2}, "denied"),
        ({"error.type": "403"}, {"code": 2}, "denied"),
        ({"http.response.status_code": 401}, {"code": 2}, "denied"),
        ({"http.response.status_code": 404}, {"code": 2}, "failure"),
        ({"rpc.grpc.status_code": 7}, {"code": 2}, "denied"),
        ({"rpc.response.status_code": "PERMISSION_DENIED"}, {"code": 2}, "denied"),
        ({"rpc.response.status_code": "-32602"}, {"code": 2}, "failure"),
        ({"rpc.jsonrpc.error_code": -32602}, {}, "failure"),
        ({"rpc.jsonrpc.error_code": "0"}, {}, "success"),
        ({"http.response.status_code": 500}, {}, "failure"),
        ({"http.response.status_code": "404"}, {}, "failure"),
        ({"http.response.status_code": 403}, {}, "denied"),
        ({"http.response.status_code": 302}, {}, "success"),
        ({"http.response.status_code": 404}, {"code": 1}, "success"),
        ({"gen_ai.tool.description": "permission denied"}, {}, "success"),
        ({"http.response.status_code": 403.0}, {}, "denied"),
        ({"error.type": "context deadline exceeded"}, {"code": 2}, "timeout"),
        ({"gen_ai.tool.status": "error"}, {"code": 1}, "failure"),
        ({"tool.status": "Error"}, {}, "failure"),
        ({"mcp.tool.result.is_error": True}, {}, "failure"),
        ({"mcp.tool.result.is_error": False}, {}, "success"),
        ({"gen_ai.tool.status": "success"}, {"code": 1}, "success"),
    ],
)
def test_the_outcome_is_what_status_and_error_say(attributes, status, outcome):
    found = row(export(span(1, attributes=TOOL | attributes, status=status)))

    assert found["outcome"] == outcome


def test_of_a_call_that_never_ended_the_outcome_is_unknown():
    assert row(export(span(1, endTimeUnixNano="0")))["outcome"] == "unknown"


def test_a_denial_is_a_decision_only_where_the_server_saw_it():
    denied = {"error.type": "insufficient_scope"}
    server = row(export(span(2, 1, kind="server", attributes=MCP | denied)))
    agent = row(export(span(2, 1, attributes=TOOL | denied)))

    assert (server["decision_effect"], agent["decision_effect"]) == ("deny", None)
    assert (server["outcome"], agent["outcome"]) == ("denied", "denied")


@pytest.mark.parametrize(
    ("transport", "protocol"),
    [
        ({"network.transport": "pipe"}, "mcp_stdio"),
        ({"network.transport": "tcp"}, "mcp_http"),
        ({"network.transport": "quic"}, "mcp_http"),
        ({"server.address": "tools.example", "server.port": 8443}, "mcp_http"),
        ({}, None),
    ],
)
def test_the_transport_of_an_mcp_call_is_its_protocol(transport, protocol):
    found = row(export(span(2, 1, kind="client", attributes=MCP | transport)))

    assert found["tool_protocol"] == protocol


def test_an_mcp_server_says_from_where_and_with_which_scopes_it_was_called():
    said = {
        "client.address": "10.0.0.9",
        "enduser.id": "mara",
        "enduser.scope": "fares:read seats:read",
        "mcp.session.id": "m-1",
    }
    found = row(export(span(2, 1, kind="server", attributes=MCP | said)))

    assert found["observer"] == "resource_server"
    assert (found["src_ip"], found["subject_id"], found["session_id"]) == (
        "10.0.0.9",
        "mara",
        "m-1",
    )
    assert found["presented_scopes"] == ["fares:read", "seats:read"]


def test_reading_a_resource_is_a_call_and_its_uri_keeps_no_secret():
    uri = "https://user:pass@files.example/a/b?token=do-not-store#do-not-store"
    attributes = {"mcp.method.name": "resources/read", "mcp.resource.uri": uri}

    found = row(export(span(2, kind="client", attributes=attributes)))

    assert (found["tool_name"], found["action_class"]) == ("resources/read", "read")
    assert found["resource"] == "https://files.example/a/b"


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("execute_tool search", {"gen_ai.operation.name": "execute_tool"}),
        ("running tool: search", {"gen_ai.operation.name": "execute_tool"}),
        ("MCP send tools/call search", {"mcp.method.name": "tools/call"}),
        ("x", {"openinference.span.kind": "TOOL", "tool.name": "search"}),
        ("x", {"traceloop.span.kind": "tool", "traceloop.entity.name": "search"}),
        ("ai.toolCall", {"ai.toolCall.name": "search", "ai.toolCall.id": "1"}),
        ("running tool", {"gen_ai.tool.name": "search", "gen_ai.tool.call.id": "1"}),
        ("tool_call", {"gen_ai.operation.name": "tool_call", "gen_ai.tool.name": "search"}),
        ("search", {"langfuse.observation.type": "tool"}),
        ("search", {"langsmith.span.kind": "tool", "gen_ai.system": "x"}),
        ("search", {"mlflow.spanType": '"TOOL"'}),
        ("search.tool", {"traceloop.span.kind": "tool"}),
        ("x", {"gen_ai.span.kind": "TOOL", "gen_ai.tool.name": "search"}),
        ("x", {"langfuse.observation.type": "span", "gen_ai.tool.name": "search"}),
        ("claude_code.tool", {"span.type": "tool", "tool_name": "search"}),
        ("invoke_tool", {"mcp.tool.name": "search"}),
        (
            "tool_call search",
            {
                "gen_ai.operation.name": "framework",
                "gen_ai.system": "spring_ai",
                "spring.ai.kind": "tool_call",
                "spring.ai.tool.definition.name": "search",
            },
        ),
    ],
)
def test_every_library_s_way_to_name_a_tool_is_understood(name, attributes):
    assert row(export(span(1, name=name, attributes=attributes)))["tool_name"] == "search"


def test_a_tool_without_a_name_is_refused_and_its_content_stays_out_of_the_letter():
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.call.arguments": "do-not-store",
        "gen_ai.input.messages": "do-not-store",
    }
    adapted = adapt(export(span(1, name="execute_tool", attributes=attributes), span(2)))

    (refusal,) = adapted.refusals
    assert (refusal.row, refusal.reason) == (0, "gen_ai.tool.name is missing")
    assert b"do-not-store" not in refusal.raw
    assert [batch.batch.num_rows for batch in adapted.batches] == [1]


def test_what_a_dead_letter_keeps_of_a_span_is_read_as_that_span_again():
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.agent.name": "planner"}
    (refusal,) = adapt(export(span(1, 9, name="execute_tool", attributes=attributes))).refusals
    mended = json.loads(refusal.raw)
    mended["attributes"]["gen_ai.tool.name"] = "search"

    found = row(json.dumps(mended).encode())

    assert (found["agent_id"], found["parent_span_id"]) == ("planner", f"{9:016x}")
    assert found["event_time"].isoformat() == "2026-01-02T10:00:00.001000+00:00"


def test_arguments_are_one_digest_however_they_are_written():
    texts = ['{"a": 1, "b": "x"}', '{"b":"x","a":1}', {"b": "x", "a": 1}]
    names = ["gen_ai.tool.call.arguments", "gen_ai.tool.args", "input.value"]

    found = {
        row(export(span(1, attributes=TOOL | {name: text})))["args_hash"]
        for name, text in zip(names, texts, strict=True)
    }

    assert found == {digest({"a": 1, "b": "x"})}


def test_a_result_that_is_no_json_is_the_digest_of_its_text():
    found = row(export(span(1, attributes=TOOL | {"gen_ai.tool.call.result": "{broken"})))

    assert found["result_hash"] == hashlib.sha256(b'"{broken"').hexdigest()
    assert found["args_hash"] is None


def test_an_error_type_that_is_a_message_is_not_kept():
    message = {"error.type": "no card do-not-store"}
    found = row(export(span(1, attributes=TOOL | message)))
    nameless = {"gen_ai.operation.name": "execute_tool"} | message
    (refusal,) = adapt(export(span(1, attributes=nameless))).refusals

    assert (found["outcome"], found["ext"]) == ("failure", {})
    assert b"do-not-store" not in refusal.raw


def test_spans_that_are_no_calls_are_counted_by_what_they_are():
    spans = [
        span(1, attributes=RUN),
        span(2, attributes={"gen_ai.operation.name": "chat"}),
        span(3, attributes={"gen_ai.operation.name": "call_llm"}),
        span(4, attributes={"gen_ai.system": "openai", "gen_ai.request.model": "m"}),
        span(5, attributes={"gen_ai.operation.name": "invoke_workflow"}),
        span(6, attributes={"openinference.span.kind": "CHAIN"}),
        span(7, kind="client", attributes={"mcp.method.name": "tools/list"}),
        span(8, kind="client", attributes={"http.request.method": "POST"}),
        span(9, attributes={"gen_ai.operation.name": "retrieval"}),
    ]

    adapted = adapt(export(*spans), b'{"resourceSpans": []}')

    assert (adapted.batches, adapted.refusals) == ([], [])
    assert adapted.skipped == {
        "an agent's run whose caller is not shown, or is the tool call above it": 1,
        "a call of a model": 3,
        "a workflow or a step of it": 2,
        "an MCP message that calls nothing": 1,
        "a span of no agent": 2,
        "an export without spans": 1,
    }


def test_a_span_that_stands_twice_in_one_value_is_one_row_and_counted():
    adapted = adapt(export(span(1), span(1)), export(span(1)))

    assert [batch.rows.tolist() for batch in adapted.batches] == [[0, 1]]
    assert adapted.skipped == {"a span that stands twice in one value": 1}


def test_two_spans_of_one_id_that_say_different_things_are_both_kept():
    other = span(1, attributes=TOOL | {"error.type": "x"})

    assert len(rows(export(span(1), other))) == 2


def test_a_tenant_s_spans_are_the_tenant_s():
    assert row(export(span(1)), tenant_id="acme")["tenant_id"] == "acme"


@pytest.mark.parametrize(
    ("record", "is_ours"),
    [
        ({"resourceSpans": []}, True),
        ({"resource_spans": [{}]}, True),
        ({"spans": [{"context": {"trace_id": 7, "span_id": 8}, "attributes": {}}]}, True),
        ({"context": {"trace_id": 1.5e38, "span_id": 8}, "attributes": {}}, True),
        ({"context": {"trace_id": "0x" + "7" * 32, "span_id": "7" * 16}, "attributes": {}}, True),
        ({"context": {"trace_id": "x", "span_id": "7" * 16}, "attributes": {}}, False),
        ({"context": {"trace_id": 7, "span_id": 8}}, False),
        ({"spans": []}, False),
        ({"spans": [{"spans": []}]}, False),
        ({"spans": ["x"]}, False),
        ({"resourceLogs": []}, False),
        ({}, False),
        ([], False),
        (None, False),
        (b"\x00\x01", False),
        (b"", False),
    ],
)
def test_only_spans_and_exports_of_them_are_recognised(record, is_ours):
    assert otel_genai.recognises(record) is is_ours


def test_the_same_values_in_another_order_give_the_same_rows():
    values = [
        export(span(3, 2, kind="client", attributes=MCP), library="mcp"),
        export(span(2, 1)),
        export(span(1, attributes=RUN)),
    ]
    there, back = rows(*values), rows(*reversed(values))

    assert sorted(there, key=repr) == sorted(back, key=repr)
    assert {one["agent_id"] for one in there} == {"planner"}


def test_nothing_given_is_nothing_taken():
    assert otel_genai.adapt([None, b" "], Context()).refusals != []
