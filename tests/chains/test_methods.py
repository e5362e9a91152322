# ruff: noqa: E501 - one event a line reads best
"""Each way to find a credential, its parent or its end, alone (domain reference 4.3, 4.4)."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.registry import load_registry
from tests.chains.told import (
    IDP,
    LATER,
    Event,
    act,
    at,
    aws_key,
    call,
    exchange,
    login,
    ref,
    refresh,
    token,
    write_policy,
)
from tests.chains.worlds import World

TRACE, SPAN, NEXT_SPAN = "a" * 32, "b" * 16, "c" * 16
SCOPES = ["crm.read", "mail.read"]
OTHER = {"subject_id": "bob", "client_id": "app"}

CALLS: dict[str, tuple[float, list[Event]]] = {
    "T3": (0.95, [login("t", cnf_thumbprint="key", audience=["crm"]), call("c", None, 1, cnf_thumbprint="key", tool_server="crm")]),
    "T4": (0.85, [login("t", txn_id="txn", audience=["crm"]), call("c", None, 1, txn_id="txn", tool_server="crm")]),
    "T5": (0.80, [
        login("t", trace_id=TRACE, span_id=SPAN, audience=["crm"]),
        call("between", "elsewhere", 1, trace_id=TRACE, span_id=NEXT_SPAN, parent_span_id=SPAN),
        call("c", None, 1, trace_id=TRACE, span_id="d" * 16, parent_span_id=NEXT_SPAN, tool_server="crm"),
    ]),
    "T6": (0.65, [login("t", audience=["crm"]), call("c", None, 1, agent_id="web", subject_id="alice", subject_issuer=IDP, tool_server="crm")]),
    "T6 a gateway's bare name": (0.65, [login("t", audience=["https://mcp.test"]), call("c", None, 1, agent_id="web", subject_id="alice", tool_server="crm")]),
    "T6 its chain of actors": (0.65, [
        login("l"), exchange("t", "l", 0.5, "B", "A"), exchange("direct", "l", 0.5, "B"),
        call("c", None, 1, agent_id="B", subject_id="alice", act_chain=act("B", "A", issuer=None)),
    ]),
    "T6 a chain that was cut": (0.65, [
        login("l"), exchange("t", "l", 0.5, "B", "A", "Z"), exchange("direct", "l", 0.5, "B"),
        call("c", None, 1, agent_id="B", subject_id="alice", act_chain=act("B", "A"), act_truncated=True),
    ]),
    "T3 another spelling": (0.95, [
        login("t", cnf_thumbprint="key", audience=["https://CRM.test:443/"]), call("c", None, 1, cnf_thumbprint="key", tool_server="https://crm.test")]),
    "T6 an address below": (0.65, [login("t", audience=["https://crm.test/"]), call("c", None, 1, agent_id="web", subject_id="alice", tool_server="https://crm.test/mcp")]),
    "T6 a registered name": (0.65, [login("t", audience=["https://ledger.test"]), call("c", None, 1, agent_id="web", subject_id="alice", tool_server="https://books.test")]),
    "T6 on its own behalf": (0.65, [
        token("t", 0, client_id="svc", subject_id="svc", grant_type="client_credentials", audience=["crm"]), call("c", None, 1, agent_id="svc", tool_server="crm")]),
    "T8 its own or a person's": (0.20, [
        token("own", 0, client_id="svc", subject_id="svc", grant_type="client_credentials"), login("l"), exchange("t", "l", 0.5, "svc"), call("c", None, 1, agent_id="svc")]),
    "T8 an address beside": (0.20, [login("t", audience=["https://crm.test/a"]), call("c", None, 1, agent_id="web", subject_id="alice", tool_server="https://crm.test/ab")]),
    "T8 another server": (0.20, [login("t", audience=["https://mail.test"]), call("c", None, 1, agent_id="web", subject_id="alice", tool_server="https://crm.test")]),
    "T8 another chain of actors": (0.20, [login("l"), exchange("t", "l", 0.5, "B", "A"), call("c", None, 1, agent_id="B", subject_id="alice", act_chain=act("B", "C"))]),
    "T7": (0.45, [login("t", session_id="s"), login("later", 0.5), call("c", None, 1, agent_id="web", session_id="s")]),
    "T8": (0.20, [login("earlier"), login("t", 0.5), call("c", None, 1, agent_id="web")]),
}  # fmt: skip
HISTORIES: dict[str, tuple[float, list[Event]]] = {
    "P6": (0.75, [login("l"), exchange("p", "l", 1, "A", audience=["B"]), exchange("t", None, 2, "B", "A")]),
    "P6 an address": (0.75, [login("l"), exchange("p", "l", 1, "A", audience=["https://b.test/"]), exchange("t", None, 2, "B", "A")]),
    "P6 a registered name": (0.75, [login("l"), exchange("p", "l", 1, "A", audience=["coder-client"]), exchange("t", None, 2, "coder", "A")]),
    "P6 an actor without issuer": (0.60, [
        login("l"), exchange("p", "l", 1, "A", audience=["B"]), exchange("t", None, 2, "B", act_chain=[*act("B"), *act("A", issuer=None)])]),
    "P6 another issuer's actor": (0, [
        login("l"), exchange("p", "l", 1, "A", audience=["B"]), exchange("t", None, 2, "B", act_chain=[*act("B"), *act("A", issuer="https://other.test")])]),
    "P6 another party's": (0, [login("l"), exchange("p", "l", 1, "A", audience=["https://c.test"]), exchange("t", None, 2, "B", "A")]),
}  # fmt: skip
# What a refresh names as its refresh token, where nobody logs the issuance of those.
REFRESHES: dict[str, list[Event]] = {
    "family": [login("p", family_id="f", scopes=SCOPES), refresh("t", "unlogged", 9, family_id="f")],
    "consent": [login("p", consent_id="yes", scopes=SCOPES), refresh("t", "unlogged", 9, consent_id="yes")],
    "again and again": [login("p", family_id="f", scopes=SCOPES), refresh("first", "unlogged", 8, family_id="f"), refresh("t", "unlogged", 9, family_id="f")],
    "by digest": [login("p", family_id="f", scopes=SCOPES), refresh("t", "digest", 9, family_id="f", parents=[{**ref("digest", "refresh"), "kind": "token_sha256"}])],
    "without issuer": [login("p", family_id="f", scopes=SCOPES), refresh("t", "unlogged", 9, family_id="f", parents=[ref("unlogged", "refresh", None)])],
    "narrowed": [login("p", family_id="f", scopes=SCOPES), refresh("first", "one", 8, family_id="f", scopes=["mail.read"]), refresh("t", "two", 9, family_id="f", scopes=SCOPES)],
    "of another family": [login("p", family_id="f", scopes=SCOPES), refresh("t", "unlogged", 9, family_id="g")],
    "shown for two people": [
        login("p", family_id="f", scopes=SCOPES), login("other", family_id="g", **OTHER),
        refresh("first", "unlogged", 8, family_id="g", **OTHER), refresh("t", "unlogged", 9, family_id="f")],
    "before its grant": [refresh("t", "unlogged", 9, family_id="f"), login("p", 10, family_id="f")],
}  # fmt: skip
UNRELATED = {"of another family", "shown for two people", "before its grant"}
PARENTS: dict[str, tuple[float, list[Event]]] = {
    "P7": (0.70, [login("p", txn_id="txn"), exchange("t", None, 1, "B", txn_id="txn")]),
    "P8": (0.60, [login("earlier", audience=["sts"]), login("p", 0.5, audience=["sts"]), aws_key("ASIAT", None, 1, audience=["sts"])]),
    "P9": (0.50, [login("earlier", trace_id=TRACE), login("p", 0.5, trace_id=TRACE), token("t", 1, op="exchange", client_id="web", trace_id=TRACE)]),
    "P10": (0.35, [login("p", session_id="s"), token("t", 9.9, op="exchange", client_id="web", session_id="s")]),
    "P10 too late": (0, [login("p", session_id="s"), token("t", 10.1, op="exchange", client_id="web", session_id="s")]),
}  # fmt: skip
# What names it, and the credential that it reaches; "other" has nothing of it.
ENDS: dict[str, tuple[Event, Event]] = {
    "family": ({"family_id": "f", "revoke_target": "family"}, login("t", family_id="f")),
    "client": ({"client_id": "web", "revoke_target": "client"}, login("t")),
    "subject": ({"subject_id": "alice", "revoke_target": "subject"}, login("t")),
    "agent": ({"actor_id": "B", "revoke_target": "agent"}, exchange("t", None, 0, "B")),
    "consent": ({"op": "consent_revoke", "consent_id": "yes"}, login("t", consent_id="yes")),
}  # fmt: skip


def _end(target: str) -> list[Event]:
    named, reached = ENDS[target]
    unnamed: Event = {
        "credential_id": None,
        "credential_kind": None,
        "subject_id": None,
        "subject_issuer": IDP,
    }
    revoke = token("none", 5, op="revoke") | unnamed | named
    later = reached | {"event_id": "later", "credential_id": "later", "event_time": at(9)}
    return [reached, later, login("other", **OTHER), revoke]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    told = (CALLS, PARENTS, HISTORIES)
    stories = {name: events for some in told for name, (_, events) in some.items()}
    stories |= {f"by {target}": _end(target) for target in ENDS}
    stories |= {f"refreshed {name}": events for name, events in REFRESHES.items()}
    events = [e | {"tenant_id": name} for name, told in stories.items() for e in told]
    made = World(registry=load_registry(write_policy(tmp_path_factory.mktemp("methods"))))
    made.feed(events, now=LATER, full=True)
    return made


def of(world: World, table: str, story: str) -> list[dict[str, Any]]:
    return [row for row in world.table(table) if row["tenant_id"] == story]


def key(world: World, story: str, name: str) -> str:
    (found,) = [c for c in of(world, "credentials", story) if c["id"] == name]
    return str(found["credential_key"])


@pytest.mark.parametrize("method", CALLS)
def test_a_call_without_an_id_is_tied_by_what_it_has(world, method):
    (link,) = [row for row in of(world, "call_links", method) if row["method"] != "T1"]
    confidence = CALLS[method][0]
    column = "credential_key" if confidence >= 0.60 else "candidate_key"
    assert (link["method"], link["confidence"]) == (method[:2], confidence)
    assert link[column] == key(world, method, "t")


@pytest.mark.parametrize("method", ["P7", "P8", "P9", "P10"])
def test_a_credential_without_a_named_parent_finds_one(world, method):
    confidence = PARENTS[method][0]
    table = "hops" if confidence >= 0.60 else "hop_candidates"
    (found,) = of(world, table, method)
    assert (found["method"], found["confidence"]) == (method, confidence)
    assert found["parent_key"] == key(world, method, "p")


@pytest.mark.parametrize("method", HISTORIES)
def test_a_history_of_actors_finds_the_parent_that_the_requester_held(world, method):
    confidence = HISTORIES[method][0]
    child, parent = key(world, method, "t"), key(world, method, "p")
    hops = [h for h in of(world, "hops", method) if h["child_key"] == child]
    found = [(h["parent_key"], h["method"], h["confidence"]) for h in hops]
    assert found == ([(parent, "P6", confidence)] if confidence else [])


@pytest.mark.parametrize("name", REFRESHES)
def test_an_unlogged_refresh_token_came_with_its_grant(world, name):
    story, within = f"refreshed {name}", name not in UNRELATED
    (chain,) = [
        c for c in of(world, "chains", story) if c["credential_key"] == key(world, story, "t")
    ]
    (hop,) = [h for h in of(world, "hops", story) if h["child_key"] == chain["credential_key"]]
    assert (chain["root_key"] == key(world, story, "p")) is within
    if within:
        assert (chain["status"], chain["depth"], chain["confidence"]) == ("complete", 0, 0.95)
        assert (hop["hop_kind"], hop["compared_with"]) == ("refresh", "original_grant")
        assert hop["attenuation"] == "covered"


def test_a_session_ties_for_ten_minutes_only(world):
    assert of(world, "hops", "P10 too late") == of(world, "hop_candidates", "P10 too late") == []


@pytest.mark.parametrize("target", ENDS)
def test_a_broad_revocation_ends_what_there_was_of_its_target(world, target):
    ended = {
        c["id"]: (c["revoked_at"], c["revoke_target"])
        for c in of(world, "credentials", f"by {target}")
    }
    assert ended == {"t": (at(5), target), "later": (None, None), "other": (None, None)}
