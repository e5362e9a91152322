"""Stories of sprawl."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.demo.company import AUTHZ, Tool, workload
from pipeline.demo.corpus.catalogue import story
from pipeline.demo.corpus.plot import (
    CRM,
    DAY,
    EXPORT,
    HOUR,
    LEDGER,
    MINUTE,
    REPLY,
    REPO,
    TICKET,
    Plot,
)

if TYPE_CHECKING:
    from pipeline.demo.script import Event


@story("SP-01", "burst", "below_floor retries allowed_more spread")
def sp_01(p: Plot) -> None:
    """One root suddenly has dozens of children."""
    many = {"below_floor": p.some(12, 22)}.get(p.kind, p.some(28, 34))
    limits: Event = {"max_fanout": 60} if p.kind == "allowed_more" else {}
    a = p.agent("a", **limits)
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    step = 110 if p.kind == "spread" else 15
    again = p.agent("w") if p.kind == "retries" else ""
    for number in range(many):
        worker = again or p.agent(f"w{number}", **limits)
        p.exchange(20 + step * number, root, worker, ("tickets.read",))


@story("SP-02", "never_needed", "needed_once seasonal_agent young_agent few_grants")
def sp_02(p: Plot) -> None:
    """A scope is granted again and again and never needed."""
    keys: Event = {"seasonal": True} if p.kind == "seasonal_agent" else {}
    if p.kind == "young_agent":
        keys = {"registered_at": p.ago(20 * DAY)}
    a = p.agent("a", **keys)
    grants = p.some(2, 3) if p.kind == "few_grants" else p.some(7, 9)
    idle = p.dice.choice((CRM, LEDGER, EXPORT))
    oldest = 19 if p.kind == "young_agent" else 95
    for number in range(grants):
        begins = p.to_end(int(oldest * DAY - number * (oldest - 2) * DAY / grants))
        token = p.client_token(begins, a, ("tickets.read", idle.scope))
        p.call(begins + p.some(30, 900), token, TICKET)
        if p.kind == "needed_once" and number == grants // 2:
            p.call(begins + 1000, token, idle)
    p.keeps_order = True
    p.may.add("SP-06")


@story("SP-03", "same_key same_token same_value", "blue_green gateway handed_over")
def sp_03(p: Plot) -> None:
    """Two agents authenticate with one credential."""
    a = p.agent("a")
    b = p.agent("b", **({"pass_through": True} if p.kind == "gateway" else {}))
    key = f"{p.name}-key"
    p.may.update(("TR-08", "TR-10", "LS-09"))
    p.own_work(b, -2000)
    if p.kind == "same_token":
        token = p.client_token(0, a, ("tickets.read",))
        p.call(60, token, TICKET)
        p.call(p.some(700, 2000), token, TICKET, agent_id=b, workload_id=workload(b))
        return
    if p.kind == "same_value":
        for agent in (a, b):
            name, value = f"{key}-{agent[-1]}", f"{p.name}-value"
            p.vault(60, "use", name, agent, fingerprint=value, bound_identity_id=agent)
            expires = p.micros_ago(-30 * DAY)
            made = p.micros_ago(20 * DAY)
            p.secret(30, name, agent, fingerprint=value, created_at=made, expires_at=expires)
        return
    for turn in range(4):
        agent = b if turn % 2 and p.kind != "blue_green" else a
        after = 60 + turn * p.some(700, 1500)
        if p.kind == "handed_over":
            agent, after = (a, b)[turn // 2], after + (turn // 2 - 1) * 40 * HOUR
        pod = f"{agent}-{('blue', 'green')[turn % 2]}"
        ip = f"10.0.9.{10 + turn % 2}"
        p.key_call(after, agent, key, TICKET, agent_instance=pod, src_ip=ip)


@story("SP-04", "calls acts_in_token", "alias ignored_client just_appeared")
def sp_04(p: Plot) -> None:
    """An agent works here that nobody registered."""
    ghost = f"{p.name}-ghost"
    if p.kind == "alias":
        p.agent("known", aliases=[{"issuer": AUTHZ, "subject": ghost}])
    if p.kind == "ignored_client":
        p.note("agents", "ignored_clients", {"subject": ghost, "reason": "load balancer probe"})
    begins = p.to_end(p.some(3, 8) * MINUTE) if p.kind == "just_appeared" else 0
    if p.kind == "acts_in_token":
        root = p.grant(0, p.person(), p.agent("a"), ("tickets.read", "crm.read"))
        p.exchange(60, root, ghost, ("tickets.read",))
        # Nobody can have allowed it to present the other's token.
        p.may.add("TR-10")
        return
    token = p.client_token(begins, ghost, ("tickets.read",))
    p.call(begins + 30, token, TICKET)
    p.call(begins + 90, token, TICKET)
    p.keeps_order = p.kind == "just_appeared"


@story("SP-05", "sleeps", "works revoked ended disaster_recovery")
def sp_05(p: Plot) -> None:
    """Nobody has seen it for weeks, and its key still works."""
    a = p.agent("a", **({"seasonal": True} if p.kind == "disaster_recovery" else {}))
    key, quiet = f"{p.name}-key", p.some(50, 85) * DAY
    last = p.some(2, 20) * DAY if p.kind == "works" else quiet
    ends = p.micros_ago(5 * DAY if p.kind == "ended" else -60 * DAY)
    facts: Event = {"secret_kind": "client_secret", "created_at": p.micros_ago(quiet + 4 * DAY)}
    facts |= {"last_rotated_at": facts["created_at"], "expires_at": ends, "consumers": [a]}
    p.key_call(p.to_end(last), a, key, TICKET)
    p.secret(p.to_end(2 * HOUR), key, a, last_used_at=p.micros_ago(last), **facts)
    if p.kind == "revoked":
        p.vault(p.to_end(HOUR), "revoke", key, a, bound_identity_id=a)
    # A secret that nobody has used for 45 days has a detection of its own.
    p.may.update(("LS-02",) if p.kind in ("sleeps", "disaster_recovery") else ())
    p.keeps_order = True


@story("SP-06", "beyond_signoff drifts", "same_tools new_version fewer_tools")
def sp_06(p: Plot) -> None:
    """Week after week an agent does a little more than it was signed off for."""
    limits: Event = {"expected_tools": [TICKET.name]} if p.kind == "beyond_signoff" else {}
    name = p.group_of_agents(**limits)
    a = p.agent("a", **{"class": name})
    everything = (TICKET, REPLY, CRM, REPO, LEDGER)
    early: tuple[Tool, ...] = (TICKET, REPLY)
    late = early
    if p.kind == "beyond_signoff":
        early, late = (TICKET,), (TICKET, CRM)
    if p.kind in ("drifts", "new_version"):
        late = everything
    if p.kind == "fewer_tools":
        early, late = everything, (TICKET,)
    sessions = [(days, early) for days in range(45, 9, -4)] + [(5, late), (3, late), (1, late)]
    for days, tools in sessions:
        begins = p.to_end(days * DAY + p.some(HOUR, 20 * HOUR))
        scopes = tuple(sorted({t.scope for t in tools}))
        version = "2.0" if p.kind == "new_version" and tools is late else "1.0"
        token = p.client_token(begins, a, scopes)
        for place, tool in enumerate(tools):
            p.call(begins + 60 + 60 * place, token, tool, agent_version=version)
    if p.kind == "new_version":
        p.sign(name, signed_at=p.ago(8 * DAY), expires_at=p.ago(-90 * DAY))
    p.may.update(("GO-04",) if p.kind == "beyond_signoff" else ())
    p.keeps_order = True


@story(
    "SP-07",
    "many_audiences wildcard many_scopes bearer_of_tier_4",
    "three_audiences twenty_scopes bound",
)
def sp_07(p: Plot) -> None:
    """A credential that opens far more than one door."""
    audiences = {"many_audiences": p.some(4, 7), "three_audiences": 3}.get(p.kind, 1)
    scopes: tuple[str, ...] = ("tickets.read",)
    if p.kind == "wildcard":
        scopes = ("*",)
    if p.kind in ("many_scopes", "twenty_scopes"):
        many = 20 if p.kind == "twenty_scopes" else p.some(21, 26)
        scopes = tuple(f"{p.name}.s{number:02d}" for number in range(many))
    if p.kind in ("bearer_of_tier_4", "bound"):
        scopes = ("billing.refund",)
    audience = [f"https://{p.name}-{number}.acme.example" for number in range(audiences)]
    thumbprint = p.fresh("cnf", 43) if p.kind == "bound" else None
    token = p.client_token(0, p.agent("a"), scopes, audience=audience, cnf_thumbprint=thumbprint)
    if p.kind in ("many_audiences", "three_audiences"):
        p.call(60, token, TICKET, tool_server=audience[0])


@story("SP-08", "unused offline_for_jit", "used_lately syncs_by_design withdrawn young")
def sp_08(p: Plot) -> None:
    """A consent that nobody uses still stands."""
    keys: Event = {}
    if p.kind in ("offline_for_jit", "syncs_by_design"):
        keys = {"jit_required": True, "background_sync": p.kind == "syncs_by_design"}
    a, person = p.agent("a", **keys), p.person()
    if p.kind in ("offline_for_jit", "syncs_by_design"):
        root = p.grant(0, person, a, ("crm.read", "offline_access"))
        p.call(60, root, CRM)
        # It keeps its grant by design here; whether it revokes after the task is another matter.
        p.may.add("LS-06")
        return
    age = p.some(20, 60) if p.kind == "young" else p.some(100, 118)
    given = p.to_end(age * DAY)
    consent = f"{p.name}-consent"
    root = p.grant(given, person, a, ("crm.read",), consent_id=consent)
    p.about(given + 1, root, "consent_grant", consent_id=consent, scopes=["crm.read"])
    p.call(given + 60, root, CRM)
    if p.kind == "used_lately":
        lately = p.to_end(p.some(5, 40) * DAY)
        token = p.refresh(lately, root)
        p.call(lately + 60, token, CRM)
        p.may.add("LS-05")
    if p.kind == "withdrawn":
        p.about(p.to_end(30 * DAY), root, "consent_revoke", consent_id=consent, scopes=[])
    p.keeps_order = True
