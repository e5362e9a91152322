"""Stories of token abuse and replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.demo.company import AUTHZ, workload
from pipeline.demo.corpus.catalogue import story
from pipeline.demo.corpus.plot import CRM, HOUR, TICKET, Plot, link

if TYPE_CHECKING:
    from pipeline.demo.script import Event

HELD = ("tickets.read", "crm.read")
STRANGE_IP = "198.51.100.7"


def _chain(p: Plot, **registry: object) -> tuple[Event, Event, tuple[str, str]]:
    """A person's grant to one agent, exchanged by another; both tokens and both agents."""
    a, b = p.agent("a"), p.agent("b", **registry)
    root = p.grant(0, p.person(), a, HELD)
    return root, p.exchange(p.some(20, 60), root, b, HELD), (a, b)


@story("TR-01", "used_after", "late_report just_after refused")
def tr_01(p: Plot) -> None:
    """A revoked token still opens the door."""
    _, token, _ = _chain(p)
    p.call(p.some(70, 150), token, TICKET)
    reason = p.dice.choice(("compromise", "task_done", None))
    p.about(200, token, "revoke", revoke_target="token", revoke_reason=reason)
    if p.kind == "late_report":
        before = p.call(p.some(100, 190), token, TICKET)
        p.delay(before, p.some(700, 2000))
    if p.kind == "just_after":
        p.call(200 + p.some(5, 40), token, TICKET)
    if p.kind == "refused":
        p.call(p.some(600, 900), token, TICKET, outcome="denied", decision_effect="deny")
    if p.kind == "used_after":
        for _ in range(p.some(1, 3)):
            p.call(p.some(520, 850), token, TICKET)


@story("TR-02", "after_its_end before_its_start", "within_leeway refused in_time")
def tr_02(p: Plot) -> None:
    """A token is taken outside the time for which it was made."""
    _, token, _ = _chain(p)
    token["expires_at"] = p.at(500)
    after = {"after_its_end": p.some(650, 3000), "within_leeway": p.some(501, 550)}.get(p.kind, 400)
    more: Event = {}
    if p.kind == "refused":
        after, more = 900, {"outcome": "denied", "decision_effect": "deny"}
    if p.kind == "before_its_start":
        token["not_before"], token["expires_at"], after = p.at(700), p.at(900), p.some(100, 500)
    p.call(after, token, TICKET, **more)


@story("TR-03", "grandchild_lives child_used", "all_revoked over_soon cascaded")
def tr_03(p: Plot) -> None:
    """The grant was revoked, what hangs below it was not."""
    a, b, c = p.agent("a"), p.agent("b"), p.agent("c")
    root = p.grant(0, p.person(), a, HELD)
    first = p.exchange(30, root, b, HELD)
    second = p.exchange(p.some(700, 800), first, c, ("tickets.read",))
    # The one between is over when the root goes.
    first["expires_at"] = p.at(840)
    second["expires_at"] = p.at(1600)
    revoked = 860
    if p.kind == "over_soon":
        second["expires_at"] = p.at(revoked + p.some(30, 200))
    cascade = {"revoke_cascade": True} if p.kind == "cascaded" else {}
    p.about(revoked, root, "revoke", revoke_target="token", **cascade)
    if p.kind == "all_revoked":
        p.about(revoked + p.some(1, 60), second, "revoke", revoke_target="token")
    p.call(820, second, TICKET)
    if p.kind == "child_used":
        p.call(p.some(1250, 1550), second, TICKET)
        # Whoever holds that a token ends with what it rests on sees it used after its end.
        p.may.update(("TR-01", "TR-02"))
    # A child that outlives the one above it has a detection of its own.
    p.may.add("PC-11")


@story("TR-04", "exchanged after_compromise", "before refused only_access_token")
def tr_04(p: Plot) -> None:
    """A revoked chain grows another link."""
    root, token, (a, b) = _chain(p)
    c = p.agent("c")
    if p.kind == "only_access_token":
        p.about(200, token, "revoke", revoke_target="token", revoke_reason="task_done")
        again = p.refresh(600, root)
        p.call(700, again, TICKET)
        return
    reason = "compromise" if p.kind == "after_compromise" else "user_request"
    victim = token if p.chance(0.5) else root
    p.about(200, victim, "revoke", revoke_target="token", revoke_reason=reason)
    if p.kind == "refused":
        event = p.exchange(p.some(500, 800), token, c, ("tickets.read",))
        event |= {"outcome": "failure", "error": "invalid_grant"}
        event |= {"credential_issuer": None, "credential_kind": None, "credential_id": None}
        event |= {"expires_at": None, "issued_at": None}
    else:
        after = p.some(90, 180) if p.kind == "before" else p.some(500, 800)
        child = p.exchange(after, token, c, ("tickets.read",))
        if p.kind == "before":
            p.about(210, child, "revoke", revoke_target="token")
            p.about(211, token, "revoke", revoke_target="token")
            p.about(212, root, "revoke", revoke_target="token")
    if p.kind != "before":
        p.may.update(("TR-03", "TR-01"))
    del a, b


@story("TR-05", "server_noticed second_use", "retry_in_grace rotated_properly")
def tr_05(p: Plot) -> None:
    """A refresh token that was used up comes back."""
    a = p.agent("a")
    more: Event = {"token_type": "refresh_token", "lives_s": 8 * HOUR}
    first = p.grant(0, p.person(), a, HELD, **more)
    kept: Event = {"token_type": "refresh_token", "src_ip": None}
    kept.pop("src_ip")
    second = p.refresh(600, first, **kept)
    if p.kind == "server_noticed":
        p.about(p.some(700, 3000), first, "reuse_detected", outcome="failure")
    if p.kind == "second_use":
        p.refresh(600 + p.some(60, 3000), first, **kept)
    if p.kind == "retry_in_grace":
        p.refresh(600 + p.some(1, 20), first, **kept)
    if p.kind == "rotated_properly":
        p.refresh(1200, second, **kept)
    p.may.add("LS-03")


@story("TR-06", "dropped other_key class_needs_it", "kept gateway_resigns never_bound")
def tr_06(p: Plot) -> None:
    """A token that was bound to a key is taken without it, or with another."""
    needs = {"pop_required": True} if p.kind == "class_needs_it" else {}
    a, b = p.agent("a"), p.agent("b", **needs)
    root = p.grant(0, p.person(), a, HELD)
    if p.kind == "gateway_resigns":
        b = p.agent("gateway", pass_through=True)
    bound = p.kind not in ("never_bound", "class_needs_it")
    root["cnf_thumbprint"] = p.fresh("root key", 43) if bound else None
    key = p.fresh("key", 43) if bound else None
    token = p.exchange(60, root, b, ("tickets.read",), cnf_thumbprint=key)
    if p.kind == "dropped":
        token["cnf_thumbprint"] = key = None
    if p.kind in ("other_key", "gateway_resigns"):
        key = p.fresh("another key", 43)
    p.call(p.some(100, 500), token, TICKET, cnf_thumbprint=key)


@story("TR-07", "other_server passed_on", "trailing_slash server_alias two_audiences refused")
def tr_07(p: Plot) -> None:
    """A server takes a token that was made for another."""
    one, two = (f"https://{p.name}-{n}.acme.example" for n in ("one", "two"))
    audience = [one, two] if p.kind == "two_audiences" else [one]
    a = p.agent("a")
    token = p.client_token(0, a, ("tickets.read",), audience=audience)
    if p.kind == "server_alias":
        p.note("trust", "resource_servers", {"aliases": [two]}, one)
    p.call(60, token, TICKET, tool_server=f"{one}/" if p.kind == "trailing_slash" else one)
    if p.kind == "trailing_slash":
        return
    more: Event = {}
    if p.kind == "refused":
        more = {"outcome": "denied", "decision_effect": "deny"}
    if p.kind == "passed_on":
        # The first server calls the second with the token it was given.
        relay = p.agent("server", kind="service_account")
        p.own_work(relay, -3000)
        more = {"agent_id": relay, "workload_id": workload(relay), "agent_instance": None}
        p.may.update(("TR-08", "SP-03", "TR-10"))
    p.call(60 + p.some(1, 200), token, TICKET, tool_server=two, **more)


@story("TR-08", "two_workloads", "hours_apart known_egress same_workload refused")
def tr_08(p: Plot) -> None:
    """Within minutes one token is used in two places."""
    a = p.agent("a")
    token = p.client_token(0, a, ("tickets.read",))
    p.call(60, token, TICKET, src_ip="10.0.4.17")
    other: Event = {"workload_id": f"{workload(a)}-elsewhere", "src_ip": STRANGE_IP}
    gap = p.some(20, 400)
    if p.kind == "hours_apart":
        gap = p.some(1500, 3000)
    if p.kind == "known_egress":
        for prefix in ("10.0.4.", "198.51.100."):
            p.note("trust", "egress", {"identity": a, "ip_prefix": prefix})
        other = {"src_ip": STRANGE_IP}
    if p.kind == "same_workload":
        other = {"src_ip": "10.0.4.99", "agent_instance": f"{p.name}-2"}
    if p.kind == "refused":
        other |= {"outcome": "denied", "decision_effect": "deny"}
    p.call(60 + gap, token, TICKET, **other)
    # Two workloads with one credential are a shared credential too.
    if p.kind in ("two_workloads", "hours_apart", "refused"):
        p.may.add("SP-03")


@story("TR-09", "proof_again grant_again", "copied_report seen_twice one_transaction same_request")
def tr_09(p: Plot) -> None:
    """What may be used once is used twice."""
    _, token, (a, b) = _chain(p)
    proof = f"dpop-{p.name}"
    if p.kind == "grant_again":
        p.exchange(100, token, b, ("tickets.read",), single_use_id=proof)
        p.exchange(p.some(150, 800), token, b, ("tickets.read",), single_use_id=proof)
        return
    if p.kind == "one_transaction":
        for number in range(3):
            agent = p.agent(f"t{number}")
            more: Event = {"workload_id": workload(agent), "txn_id": f"{p.name}-txn"}
            own = p.exchange(100 + 30 * number, token, agent, ("tickets.read",))
            own["txn_id"] = more["txn_id"]
            p.call(120 + 30 * number, own, TICKET, **more)
        return
    call = p.call(100, token, TICKET, single_use_id=proof)
    if p.kind == "proof_again":
        p.call(p.some(110, 500), token, TICKET, single_use_id=proof)
    if p.kind == "copied_report":
        p.repeat(call, p.some(120, 900))
    if p.kind == "seen_twice":
        p.seen_by_runtime(101, call, single_use_id=proof)
    if p.kind == "same_request":
        p.call(p.some(101, 110), token, TICKET, single_use_id=proof, call_id=call["call_id"])
    p.keeps_order = True
    del a


@story("TR-10", "stranger_calls stranger_exchanges", "delegate gateway itself")
def tr_10(p: Plot) -> None:
    """Somebody presents a token that was made for somebody else."""
    _, token, (_, b) = _chain(p)
    keys: Event = {}
    if p.kind == "delegate":
        keys = {"delegate_for": [b]}
    if p.kind == "gateway":
        keys = {"pass_through": True}
    c = p.agent("c", **keys)
    p.own_work(c)
    if p.kind == "stranger_exchanges":
        child = p.exchange(p.some(100, 300), token, b, ("tickets.read",))
        child["client_id"] = c
        # It asked, and stands nowhere in the chain.
        p.may.add("BT-03")
        return
    who = {"agent_id": b if p.kind == "itself" else c}
    p.call(p.some(100, 300), token, TICKET, **who, workload_id=workload(who["agent_id"]))
    p.may.update(() if p.kind == "itself" else ("SP-03", "TR-08"))


@story("TR-11", "suffix_differs tokens_unrelated", "fits own_actor_token narrowed_again")
def tr_11(p: Plot) -> None:
    """Two chains were glued together."""
    _, token, (a, b) = _chain(p)
    c, d = p.agent("c"), p.agent("d")
    if p.kind == "narrowed_again":
        p.exchange(100, token, b, ("tickets.read",))
        return
    child = p.exchange(p.some(100, 300), token, c, ("tickets.read",))
    if p.kind == "suffix_differs":
        stranger = [{"issuer": AUTHZ, "subject": d}]
        child["act_chain"] = [child["act_chain"][0], *stranger]
        p.may.add("BT-03")
    if p.kind in ("tokens_unrelated", "own_actor_token"):
        owner = c if p.kind == "own_actor_token" else d
        limiter = p.client_token(60, owner, ("tickets.read",), audience=[AUTHZ])
        limiter |= {"trace_id": p.fresh("elsewhere"), "session_id": p.fresh("elsewhere")}
        child["parents"].append(link(limiter, "actor"))
        # Somebody else's token as the actor's is also the wrong presenter.
        p.may.update(("TR-10", "PC-10") if p.kind == "tokens_unrelated" else ())
    del a


@story("TR-12", "in_payload", "clean not_scanned")
def tr_12(p: Plot) -> None:
    """A token travels inside the arguments of a call."""
    _, token, _ = _chain(p)
    verdict = {"in_payload": True, "clean": False}.get(p.kind)
    p.call(p.some(80, 400), token, p.dice.choice((TICKET, CRM)), secret_in_payload=verdict)


@story("TR-13", "probes_then_gets_in", "few_refusals consented same_token other_resource")
def tr_13(p: Plot) -> None:
    """Refused again and again, then let in with another token."""
    a, person = p.agent("a"), p.person()
    root = p.grant(0, person, a, ("tickets.read",))
    token = p.exchange(10, root, a, ("tickets.read",))
    refused: Event = {"outcome": "denied", "decision_effect": "deny"}
    many = p.some(2, 4) if p.kind == "few_refusals" else p.some(5, 8)
    for turn in range(many):
        p.call(60 + 60 * turn, token, CRM, **refused)
    target: Event = {"resource": f"{p.name}/other"} if p.kind == "other_resource" else {}
    after = 60 + 60 * many + p.some(30, 900)
    if p.kind == "same_token":
        p.call(min(after, 800), token, TICKET, resource=CRM.resource)
        return
    if p.kind == "consented":
        consent = p.fresh("consent", 12)
        p.about(after - 20, root, "consent_grant", consent_id=consent, scopes=list(HELD))
        second = p.grant(after - 10, person, a, HELD, consent_id=consent)
    else:
        second = p.client_token(after - 10, a, HELD)
        second |= {"trace_id": p.fresh("other"), "session_id": p.fresh("other")}
        # It took its own credential while it worked for a person.
        p.may.add("PC-03")
    p.call(after, second, CRM, **target)
