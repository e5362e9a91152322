"""An event keeps its uid for ever: stored history and replays must go on meeting."""

from __future__ import annotations

import pytest

from pipeline.events.conform import build_batch
from pipeline.events.identity import event_uids

ENVELOPE = {
    "event_id": "e-1",
    "source": "urn:test",
    "event_time": "2026-01-02T03:04:05.000006Z",
    "ext": {"b": "2", "a": "1"},
}
EVENTS = {
    "tool_call": ENVELOPE
    | {
        "observer": "gateway",
        "tool_name": "crm.read",
        "outcome": "success",
        "agent_id": "planner",
        "act_chain": [{"issuer": None, "subject": "planner"}],
    },
    "token_event": ENVELOPE
    | {
        "observer": "authz_server",
        "op": "issue",
        "outcome": "success",
        "credential_issuer": "https://idp.test",
        "credential_kind": "jti",
        "credential_id": "t-1",
        "scopes": ["crm.read"],
        "may_act": [],
    },
    "secret_event": ENVELOPE
    | {"observer": "secret_store", "op": "create", "secret_id": "s-1", "never_expires": True},
}
# Where a new contract field changes one of these, leave that field out of the identity while
# it has its default; never change the literal.
UIDS = {
    "tool_call": "1c1d175b2f5e0fafcade1c8b45e2c0c5a23fafeb10d11d5381087a25d852f0e5",
    "token_event": "dc3d0bca4755b7c3512964fe310c0897cd40cc8585dbecf6c48c9c02204cfec0",
    "secret_event": "49a3f9fa92073a7eb90bdb047f4ac54c43d076a5c96756efe5c04108d9fcd4a1",
}


@pytest.mark.parametrize("family", sorted(EVENTS))
def test_uid_of_an_event_never_changes(family):
    taken = build_batch(family, [EVENTS[family]])

    assert event_uids(family, taken.batch).to_pylist() == [UIDS[family]]
