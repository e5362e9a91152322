"""What calls show of a credential that nobody described."""

from __future__ import annotations

from datetime import timedelta

from tests.chains.worlds import built
from tests.factories import NOW, token_event, tool_call

ISSUER = "https://idp.test"
TOKEN = {"credential_issuer": ISSUER, "credential_kind": "jti", "credential_id": "seen-in-use"}
CHAIN = [{"issuer": ISSUER, "subject": name} for name in ("triage", "desk")]


def _call(minute: int, **over):
    usual = {
        **TOKEN,
        "agent_id": "triage",
        "subject_id": "ann",
        "observer": "gateway",
        "event_time": NOW - timedelta(minutes=30 - minute),
    }
    return tool_call(**usual | over)


def _path(*events):
    chains = built(events).table("chains")
    (chain,) = [row for row in chains if row["root_principal"] == "ann"]
    return chain["actor_path"]


def test_the_actors_that_a_gateway_read_from_a_token_stand_on_its_path_oldest_first():
    assert _path(_call(1, act_chain=CHAIN)) == ["ann", "desk", "triage"]


def test_a_runtime_s_word_does_not_stand_against_the_gateway_s():
    declared = [CHAIN[0], {"issuer": ISSUER, "subject": "stranger"}]
    runtime = _call(1, act_chain=declared, observer="agent_runtime", source="urn:runtime")

    assert _path(runtime, _call(2, act_chain=CHAIN)) == ["ann", "desk", "triage"]


def test_what_the_issuer_said_of_a_token_is_not_mended_by_its_uses():
    issued = token_event(
        **TOKEN,
        subject_id="ann",
        actor_id="triage",
        client_id="triage",
        event_time=NOW - timedelta(minutes=40),
    )

    assert _path(issued, _call(1, act_chain=CHAIN)) == ["ann", "triage"]
