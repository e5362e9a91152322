"""What one audit event of ToolHive becomes."""

import json

import pytest

from pipeline.ingest.sources import Context, load_adapter

SOURCE = load_adapter("toolhive")
AS = "https://auth.test"


def event(**over):
    return {
        "audit_id": "a-1",
        "type": "mcp_tool_call",
        "logged_at": "2026-05-01T10:00:00.123456Z",
        "outcome": "success",
        "component": "crm-mcp",
        "source": {"type": "network", "value": "192.0.2.7", "extra": {"request_id": "req-1"}},
        "subjects": {"user_id": "u-1", "user": "Ann"},
        "target": {"endpoint": "/mcp", "method": "tools/call", "type": "tool", "name": "search"},
    } | over


def adapt(*records, context=None):
    values = [json.dumps(record).encode() for record in records]
    return SOURCE.adapt(values, context or Context())


def row(record, context=None):
    adapted = adapt(record, context=context)
    assert not adapted.refusals, adapted.refusals
    (found,) = adapted.batches[0].batch.to_pylist(maps_as_pydicts="strict")
    return found | {"parse_status": adapted.batches[0].parse_status[0].as_py()}


def chain_of(*subjects, **over):
    hops = [{"iss": AS, "sub": subject} for subject in subjects]
    return {"chain": hops, "truncated": False, "omitted": 0, "malformed": False} | over


def actors(found):
    return [(actor["issuer"], actor["subject"]) for actor in found["act_chain"]]


def test_a_delegated_call_is_by_the_outermost_actor_on_behalf_of_the_token_s_subject():
    found = row(event(delegation=chain_of("mailer", "planner")))

    assert (found["agent_id"], found["agent_issuer"]) == ("mailer", AS)
    assert (found["actor_id"], found["actor_convention"]) == ("mailer", "act")
    assert (found["subject_id"], found["subject_issuer"]) == ("u-1", None)
    assert actors(found) == [(AS, "mailer"), (AS, "planner")]
    assert not found["act_truncated"]
    assert found["act_malformed_reason"] is None


@pytest.mark.parametrize("name", ["delegationChain", "delegation_chain"])
def test_the_older_chain_is_read_with_the_issuer_from_its_act_claims(name):
    older = {
        "actors": [{"sub": "mailer", "act_claims": {"iss": AS, "email": "e"}}, {"sub": "planner"}],
        "truncated": True,
        "dropped_count": 3,
    }

    found = row(event(**{name: older}))

    assert actors(found) == [(AS, "mailer"), (None, "planner")]
    assert found["act_truncated"]
    assert found["ext"]["act_omitted"] == "3"


def test_an_older_event_without_envelope_fields_of_the_log_is_read_too():
    older = event(metadata={"auditId": "a-0", "duration_ms": 4, "transport": "http"})
    del older["audit_id"], older["logged_at"]
    older |= {"loggedAt": "2026-05-01T10:00:00Z", "target": {"method": "POST", "resource_id": "w"}}

    found = row(older)

    assert (found["event_id"], found["tool_name"], found["operation"]) == ("a-0", "w", "tools/call")
    assert found["event_time"].isoformat() == "2026-05-01T10:00:00+00:00"
    assert found["ext"]["duration_ms"] == "4"


def test_a_delegation_that_cannot_be_read_stays_asserted_and_is_nobody_s():
    malformed = chain_of(malformed=True, malformedReason="act_not_object")

    found = row(event(delegation=malformed))

    assert (found["agent_id"], found["actor_id"]) == ("unknown", None)
    assert (found["actor_convention"], found["act_malformed_reason"]) == ("act", "act_not_object")
    assert found["subject_id"] == "u-1"


@pytest.mark.parametrize(
    ("hops", "kept"),
    [
        ([{"sub": "a"}, {"iss": AS}, {"sub": "c"}], ["a"]),
        ([{"iss": AS}, {"sub": "b"}], []),
        ([{"sub": 7}, {"sub": "b"}], []),
        ([{"sub": "a"}, "b"], ["a"]),
        ([{"sub": "a", "iss": 7}], ["a"]),
    ],
)
def test_a_hop_without_a_name_ends_the_chain_for_the_next_would_move_up(hops, kept):
    found = row(event(delegation=chain_of() | {"chain": hops}))

    assert [subject for _, subject in actors(found)] == kept
    assert found["agent_id"] == (kept[0] if kept else "unknown")
    cut = len(kept) < len(hops)
    assert found["act_malformed_reason"] == ("sub_missing" if cut else None)
    assert found["parse_status"] == ("partial" if cut else "ok")


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("text", "delegation_not_object"),
        (7, "delegation_not_object"),
        ({"chain": {"sub": "a"}}, "chain_not_array"),
        ({"chain": "a"}, "chain_not_array"),
        ({}, "chain_not_array"),
    ],
)
def test_a_delegation_of_another_form_is_malformed(odd, reason):
    found = row(event(delegation=odd))

    assert found["act_malformed_reason"] == reason
    assert found["act_chain"] == []


def test_without_delegation_the_client_acts_or_else_the_subject():
    named = {"user_id": "u-1", "user": "Ann", "client_name": "desk", "client_version": "2"}

    client, user = row(event(subjects=named)), row(event())

    assert (client["agent_id"], client["agent_version"]) == ("desk", "2")
    assert (user["agent_id"], user["actor_id"], user["actor_convention"]) == ("u-1", None, None)


def test_a_call_refused_before_mcp_was_parsed_is_a_denied_call_of_nobody():
    refused = event(
        type="http_request",
        outcome="denied",
        subjects={"user": "anonymous"},
        target={"endpoint": "/mcp", "method": "POST", "type": "endpoint"},
    )

    found = row(refused)

    assert (found["tool_name"], found["operation"]) == ("http_request", "POST /mcp")
    assert (found["outcome"], found["decision_effect"]) == ("denied", "deny")
    assert (found["agent_id"], found["subject_id"]) == ("anonymous", None)


@pytest.mark.parametrize(
    ("said", "outcome", "decision"),
    [
        ("success", "success", None),
        ("failure", "failure", None),
        ("error", "failure", None),
        ("application_error", "failure", None),
        ("denied", "denied", "deny"),
        ("odd", "unknown", None),
    ],
)
def test_outcomes_are_those_of_the_contract_and_a_decision_only_where_one_is_told(
    said, outcome, decision
):
    found = row(event(outcome=said))

    assert (found["outcome"], found["decision_effect"]) == (outcome, decision)
    assert found["ext"]["outcome"] == said


@pytest.mark.parametrize(
    ("kind", "method", "tool", "action"),
    [
        ("mcp_tools_list", "POST", "tools/list", "read"),
        ("mcp_resource_read", "resources/read", "resources/read", "read"),
        ("mcp_request", "tasks/cancel", "tasks/cancel", None),
        ("mcp_request", "POST", "mcp_request", None),
        ("sse_connection", "GET", "sse_connection", None),
        ("mcp_ping", "ping", "ping", None),
    ],
)
def test_what_is_no_tool_call_is_named_by_its_method(kind, method, tool, action):
    target = {"endpoint": "/mcp", "method": method, "type": "endpoint", "name": "res://1"}

    found = row(event(type=kind, target=target))

    assert (found["tool_name"], found["action_class"]) == (tool, action)
    assert (found["resource"], found["tool_protocol"]) == ("res://1", "mcp_http")


def test_a_workflow_s_beginning_and_end_share_a_call_and_only_the_end_has_an_outcome():
    target = {"workflow_id": "w-1", "workflow_name": "triage", "step_id": "s", "tool_name": "t"}
    kinds = ["started", "completed", "failed", "timed_out"]

    flow = [row(event(type=f"vmcp_workflow_{kind}", target=target)) for kind in kinds]
    begun = row(event(type="vmcp_workflow_step_started", target=target))
    done = row(event(type="vmcp_workflow_step_completed", target={**target, "tool_name": None}))

    assert {one["call_id"] for one in flow} == {"w-1"}
    assert [one["phase"] for one in flow] == ["pre", "post", "post", "post"]
    assert [one["outcome"] for one in flow] == ["unknown", "success", "success", "timeout"]
    assert (begun["call_id"], begun["tool_name"]) == (done["call_id"], done["tool_name"])
    assert (begun["tool_name"], begun["operation"], begun["phase"]) == ("s", "t", "pre")


def test_a_step_that_did_not_run_is_told_and_counted_but_no_call():
    adapted = adapt(event(type="vmcp_workflow_step_skipped"))

    assert not adapted.batches
    assert dict(adapted.skipped) == {"a workflow step that did not run": 1}


def test_the_server_is_the_backend_where_one_is_named_else_the_component():
    backend = row(event(metadata={"extra": {"backend_name": "tickets"}}))

    assert backend["tool_server"] == "tickets"
    assert row(event())["tool_server"] == "crm-mcp"
    assert row(event(component="toolhive-api"))["tool_server"] is None


def test_the_source_is_the_component_of_the_instance():
    assert row(event())["source"] == "stacklok.toolhive:crm-mcp"
    assert row(event(), Context(instance="eu"))["source"] == "stacklok.toolhive:eu/crm-mcp"


def test_arguments_and_answers_are_hashed_alone_whatever_surrounds_them():
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "params": {"name": "search", "arguments": {"q": "do-not-store"}},
    }
    again = {
        "jsonrpc": "2.0",
        "id": 2,
        "params": {"name": "search", "arguments": {"q": "do-not-store"}},
    }

    one = row(event(data={"request": call, "response": {"rows": "do-not-store"}}))
    two = row(event(data={"request": again}))

    assert one["args_hash"] == two["args_hash"] is not None
    assert one["result_hash"] is not None
    assert "do-not-store" not in json.dumps(one, default=str)


def test_an_event_without_a_time_is_refused_without_its_data():
    record = event(data={"request": "do-not-store"}, metadata={"extra": {"note": "do-not-store"}})
    del record["logged_at"]

    (refusal,) = adapt(record).refusals

    assert (refusal.stage, refusal.reason) == ("validate", "event_time is missing")
    assert b"do-not-store" not in refusal.raw


@pytest.mark.parametrize(
    "odd",
    [
        {"source": None, "subjects": None, "target": None, "metadata": None},
        {"source": "x", "subjects": [1], "target": 7, "metadata": "m"},
        {"delegation": {"chain": [[], None, 3]}},
        {"delegation": {"chain": [], "truncated": "maybe", "omitted": {"a": 1}}},
        {"delegation": None, "delegationChain": [{"sub": "a"}]},
        {"trace_id": "xyz", "span_id": 10**30},
        {"audit_id": {"nested": [None]}},
    ],
)
def test_odd_members_break_nothing(odd):
    adapted = adapt(event(**odd), event(audit_id="good"))

    ids = [one for batch in adapted.batches for one in batch.batch["event_id"].to_pylist()]
    assert "good" in ids
    assert len(ids) + len(adapted.refusals) == 2


def test_only_its_own_events_are_recognised():
    assert SOURCE.recognises(event())
    assert not SOURCE.recognises({"type": "x", "outcome": "success", "component": "c"})
    assert not SOURCE.recognises(event(subjects="u"))
    assert not SOURCE.recognises([event()])
