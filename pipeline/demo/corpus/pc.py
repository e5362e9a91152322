"""Stories of privilege chaining."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.demo.columns import SECOND
from pipeline.demo.company import AUTHZ, TRUST_DOMAIN
from pipeline.demo.corpus.catalogue import story
from pipeline.demo.corpus.plot import (
    ADMIN,
    ASSERTION,
    CRM,
    DAY,
    EXPORT,
    HOUR,
    LEDGER,
    MAIL,
    METRICS,
    MINUTE,
    REPO,
    SOME_TOOLS,
    TICKET,
    Plot,
)

if TYPE_CHECKING:
    from pipeline.demo.script import Event

WIDE = (CRM, LEDGER, MAIL, EXPORT, REPO)


@story(
    "PC-01",
    "widened regained refreshed_beyond",
    "narrowed stepped_up refreshed_back implied mapped scopes_unknown",
)
def pc_01(p: Plot) -> None:
    """An exchange returns more than its parent held; consent, refresh and maps may explain it."""
    person, a, b = p.person(), p.agent("a"), p.agent("b")
    extra = p.dice.choice(WIDE)
    narrow = ("tickets.read", "tickets.write")[: p.some(1, 2)]
    wide = (*narrow, extra.scope)
    tells = {
        "regained": _regained,
        "refreshed_beyond": _refreshed,
        "refreshed_back": _refreshed,
        "stepped_up": _stepped_up,
        "implied": _implied,
        "mapped": _mapped,
    }
    if p.kind in tells:
        tells[p.kind](p, (person, a, b), narrow, wide)
        return
    root = p.grant(0, person, a, wide if p.kind == "narrowed" else narrow)
    if p.kind == "scopes_unknown":
        root["scope_known"], root["scopes"], root["requested_scopes"] = False, [], []
    if p.kind == "widened":
        p.must.add("PC-02")
    child = p.exchange(p.some(20, 90), root, b, narrow if p.kind == "narrowed" else wide)
    if p.chance(0.7) and p.kind != "scopes_unknown":
        p.call(p.some(100, 300), child, TICKET if p.kind == "narrowed" else extra)
        p.may.update(("PC-12", "GO-08") if p.kind == "widened" else ())


Who = tuple[str, str, str]
Scopes = tuple[str, ...]


def _regained(p: Plot, who: Who, narrow: Scopes, wide: Scopes) -> None:
    root = p.grant(0, who[0], who[1], wide)
    first = p.exchange(30, root, who[1], narrow)
    p.exchange(p.some(60, 200), first, who[2], wide)


def _refreshed(p: Plot, who: Who, narrow: Scopes, wide: Scopes) -> None:
    beyond = p.kind == "refreshed_beyond"
    root = p.grant(0, who[0], who[1], narrow if beyond else wide)
    lesser = p.refresh(60, root, narrow[:1])
    token = p.refresh(p.some(120, 900), lesser, wide)
    p.call(1000, token, TICKET)
    p.may.add("TR-05")
    if beyond:
        p.must.add("PC-02")


def _stepped_up(p: Plot, who: Who, narrow: Scopes, wide: Scopes) -> None:
    root = p.grant(0, who[0], who[1], narrow)
    p.exchange(20, root, who[1], narrow)
    consent = p.fresh("consent", 12)
    p.about(60, root, "consent_grant", consent_id=consent, scopes=list(wide))
    again = p.grant(70, who[0], who[1], wide, consent_id=consent)
    p.exchange(90, again, who[2], wide)


def _implied(p: Plot, who: Who, narrow: Scopes, _wide: Scopes) -> None:
    held, inner = f"{p.name}.manage", f"{p.name}.view"
    p.note("scopes", "implications", {"issuer": AUTHZ, "scope": held, "implies": [inner]})
    root = p.grant(0, who[0], who[1], (*narrow, held))
    p.exchange(p.some(20, 90), root, who[2], (*narrow, inner))


def _mapped(p: Plot, who: Who, narrow: Scopes, _wide: Scopes) -> None:
    there = f"https://{p.name}.acme.example"
    for scope in narrow:
        entry = {"from_issuer": AUTHZ, "from_audience": "https://api.acme.example"}
        entry |= {"from_scope": scope, "to_issuer": AUTHZ, "to_audience": there}
        p.note("scopes", "maps", entry | {"to_scope": f"{p.name}.{scope}"})
    root = p.grant(0, who[0], who[1], narrow)
    scopes = tuple(f"{p.name}.{scope}" for scope in narrow)
    p.exchange(40, root, who[2], scopes, audience=[there])


@story("PC-02", "hidden above_ceiling", "consented in_ceiling")
def pc_02(p: Plot) -> None:
    """Authority that the root never had, hidden behind a hop of unknown scopes."""
    person, b = p.person(), p.agent("b")
    extra = p.dice.choice(WIDE)
    if p.kind in ("above_ceiling", "in_ceiling"):
        ceiling = ["tickets.read", "tickets.write"]
        a = p.agent("a", scope_ceiling=ceiling)
        more = (extra.scope,) if p.kind == "above_ceiling" else ()
        token = p.client_token(0, a, (*ceiling, *more))
        p.call(60, token, TICKET)
        # What is beyond the ceiling is outside the signed-off envelope too.
        p.may.update(("GO-04", "SP-06") if more else ())
        return
    a = p.agent("a")
    root = p.grant(0, person, a, ("tickets.read",))
    wide = ("tickets.read", extra.scope)
    if p.kind == "consented":
        consent = p.fresh("consent", 12)
        p.about(40, root, "consent_grant", consent_id=consent, scopes=list(wide))
        root = p.grant(60, person, a, wide, consent_id=consent)
        p.exchange(100, root, b, wide)
        return
    unknown = p.exchange(30, root, b, (), scope_known=False)
    p.exchange(p.some(60, 300), unknown, p.agent("c"), wide)
    p.may.add("PC-01")


@story("PC-03", "same_trace same_instance", "covered ambient later nothing_delegated")
def pc_03(p: Plot) -> None:
    """During work for a person an agent reaches for its own standing credential."""
    ambient = {"ambient_tools": [METRICS.name]} if p.kind == "ambient" else {}
    person, a = p.person(), p.agent("a", **ambient)
    scope = p.dice.choice((CRM, LEDGER, REPO))
    tool = {"ambient": METRICS, "covered": TICKET}.get(p.kind, scope)
    own = p.client_token(0, a, (tool.scope,))
    instance = f"{p.name}-pod"
    if p.kind != "nothing_delegated":
        root = p.grant(10, person, a, ("tickets.read",))
        given = p.exchange(20, root, a, ("tickets.read",))
        p.call(60, given, TICKET, agent_instance=instance)
    else:
        p.call(60, p.client_token(20, a, ("tickets.read",)), TICKET, agent_instance=instance)
    own["trace_id"] = p.fresh("own trace")
    elsewhere: Event = {"trace_id": p.fresh("trace"), "session_id": p.fresh("session")}
    more: Event = {"agent_instance": instance}
    if p.kind == "same_instance":
        more |= elsewhere
    if p.kind == "later":
        more = elsewhere | {"agent_instance": f"{p.name}-other"}
    p.call(2400 if p.kind == "later" else p.some(70, 200), own, tool, **more)
    p.may.update(("BT-06",) if p.kind.startswith("same") else ())
    p.keeps_order = True


TOXIC = (
    (("untrusted_input", TICKET), ("sensitive_read", EXPORT), ("external_egress", MAIL)),
    (("secret_read", CRM), ("external_send", MAIL)),
    (("admin_iam", ADMIN), ("secret_read", CRM)),
)


@story("PC-04", "one_token one_chain", "other_order half other_people")
def pc_04(p: Plot) -> None:
    """Read what strangers wrote, read what is secret, send it out: harmless one by one."""
    combination = p.dice.choice(TOXIC)
    scopes = tuple(sorted({tool.scope for _, tool in combination}))
    person, a, b = p.person(), p.agent("a"), p.agent("b")
    steps = list(combination)
    if p.kind == "other_order":
        # Nothing untrusted or secret was known yet when it was sent.
        steps.reverse()
    if p.kind == "half":
        steps = steps[:-1]
    root = p.grant(0, person, a, scopes)
    token = p.exchange(20, root, a, scopes)
    other = p.exchange(30, token, b, scopes) if p.kind == "one_chain" else token
    if p.kind == "other_people":
        root = p.grant(40, p.person("ben"), b, scopes)
        other = p.exchange(50, root, b, scopes)
        other["session_id"], other["trace_id"] = f"s-{p.name}-2", p.fresh("trace")
    for place, (word, tool) in enumerate(steps):
        token_of = other if place == len(steps) - 1 else token
        fields: Event = {"session_id": token_of["session_id"], "trace_id": token_of["trace_id"]}
        fields["agent_instance"] = f"{p.name}-{token_of['client_id']}"
        if word in ("untrusted_input", "sensitive_read", "external_egress"):
            fields["tags"] = [word]
        else:
            fields["action_class"] = word
        p.call(100 + 120 * place + p.some(0, 60), token_of, tool, **fields)
    p.keeps_order = True


@story("PC-05", "deep above_class above_root very_deep", "three class_limit gateway_counted")
def pc_05(p: Plot) -> None:
    """A chain with more changes of actor than its class or its root allows."""
    depths = {"deep": p.some(4, 5), "very_deep": p.some(6, 8), "above_class": 2, "above_root": 3}
    depth = depths.get(p.kind, 3)
    limits: Event = {}
    if p.kind in ("above_class", "class_limit"):
        limits = {"max_depth": 1 if p.kind == "above_class" else 3}
    last = p.kind == "gateway_counted"
    root = p.grant(0, p.person(), p.agent("a", **limits), ("tickets.read", "crm.read"))
    root["max_depth"] = 2 if p.kind == "above_root" else None
    token = root
    for level in range(depth + last):
        passing = {"pass_through": True} if last and level == 1 else {}
        agent = p.agent(f"w{level}", **limits, **passing)
        token = p.exchange(30 + 20 * level, token, agent, ("tickets.read",))
    p.call(400, token, TICKET)


@story("PC-06", "reentry cycle", "narrows_again callback_agreed")
def pc_06(p: Plot) -> None:
    """An actor comes back further down its own chain, or a chain bites its tail."""
    agreed = p.kind == "callback_agreed"
    a = p.agent("a")
    b = p.agent("b", **({"reentry_allowed_with": [a]} if agreed else {}))
    if agreed:
        p.facts["agents.yaml"]["agents"][a]["reentry_allowed_with"] = [b]
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    first = p.exchange(30, root, a, ("tickets.read", "crm.read"))
    second = p.exchange(60, first, b, ("tickets.read",))
    if p.kind == "narrows_again":
        p.exchange(90, second, b, ("tickets.read",))
    elif p.kind == "cycle":
        third = p.exchange(90, second, p.agent("c"), ("tickets.read",))
        # No clock allows this: each claims to come from the other.
        second["parents"] = [{**second["parents"][0], "id": third["credential_id"]}]
        p.may.update(("TR-11", "BT-03", "BT-02", "BT-04", "TR-10", "PC-05", "PC-11"))
    else:
        p.exchange(90, second, a, ("tickets.read",))


@story("PC-07", "two_hops other_account source_lost", "one_hop agreed_pair source_kept")
def pc_07(p: Plot) -> None:
    """Cloud roles taken one after the other, into an account that nobody agreed to."""
    home, away = f"{p.some(10**11, 9 * 10**11)}", f"{p.some(10**11, 9 * 10**11)}"
    first_role, last_role = f"{p.name}-ci", f"{p.name}-admin"
    arns = [f"arn:aws:iam::{home}:role/{first_role}", f"arn:aws:iam::{home}:role/{last_role}"]
    needs = p.kind in ("source_lost", "source_kept")
    limits: Event = {"source_identity_required": True} if needs else {}
    agent = p.agent("a", **limits)
    p.agent("role0", kind="workload", aliases=[{"subject": arns[0]}], **limits)
    others = [{"subject": arns[1]}, {"subject": f"arn:aws:iam::{away}:role/{last_role}"}]
    p.agent("role1", kind="workload", aliases=others, **limits)
    base = p.client_token(0, agent, ("cloud.assume",), audience=["https://sts.acme.example"])
    # Its own token names itself; a source identity is a person's or a pipeline's name.
    base |= {"subject_id": None, "subject_issuer": None, "subject_kind": None}
    kept: Event = {"subject_id": f"{p.name}-pipeline", "subject_kind": "unknown"}
    first = p.assume(30, base, first_role, home, **(kept if p.kind == "source_kept" else {}))
    p.may.add("SP-04")
    if p.kind in ("two_hops", "agreed_pair"):
        p.assume(p.some(60, 400), first, last_role, home)
    if p.kind == "agreed_pair":
        p.note("trust", "role_edges", {"source": arns[0], "target": arns[1], "account": home})
    if p.kind == "other_account":
        domains = {"from_trust_domain": f"aws:{home}", "to_trust_domain": f"aws:{away}"}
        p.assume(p.some(60, 400), first, last_role, away, **domains)
        p.may.add("PC-09")


@story("PC-08", "itself its_parent then_wider", "somebody_else approved only_reads refused")
def pc_08(p: Plot) -> None:
    """An agent gives itself, or whoever sent it, another role."""
    a, b, c = p.agent("a"), p.agent("b"), p.agent("c")
    scopes = ("tickets.read", "iam.admin", "iam.read")
    root = p.grant(0, p.person(), a, scopes)
    token = p.exchange(30, root, b, scopes)
    target = {"its_parent": a, "somebody_else": c}.get(p.kind, b)
    fields: Event = {"resource": target, "args_hash": p.fresh("args", 64)}
    if p.kind == "approved":
        fields |= {"approval_id": f"{p.name}-ok", "approval_args_hash": fields["args_hash"]}
        fields["approval_expires_at"] = p.at(900)
    if p.kind == "only_reads":
        fields |= {"action_class": "read", "operation": "read", "required_scopes": ["iam.read"]}
    if p.kind == "refused":
        fields |= {"outcome": "denied", "decision_effect": "deny"}
    p.call(p.some(60, 300), token, ADMIN, **fields)
    if p.kind == "then_wider":
        before = p.client_token(10, b, ("tickets.read",))
        after = p.client_token(600, b, ("tickets.read", "warehouse.export"))
        p.call(650, after, EXPORT)
        # Its own authority, while it works for a person.
        p.may.add("PC-03")
        before["trace_id"] = after["trace_id"] = p.fresh("own")


@story("PC-09", "no_edge edge_ended no_record", "edge record same_domain")
def pc_09(p: Plot) -> None:
    """A token crosses from a partner's domain, and nobody has agreed to it."""
    there, issuer = f"{p.name}.example", f"https://as.{p.name}.example"
    away = {"trust_domain": there, "foreign_without_logs": True}
    p.note("trust", "issuers", away, issuer)
    needs = p.kind in ("no_record", "record")
    a = p.agent("a", **({"delegation_record_required": True} if needs else {}))
    person = p.person()
    edge = {"from_domain": there, "to_domain": TRUST_DOMAIN, "issuer": issuer}
    ends = p.moment(-DAY) if p.kind == "edge_ended" else p.ago(-90 * DAY)
    if p.kind not in ("no_edge", "same_domain"):
        p.note("trust", "trust_edges", edge | {"expires_at": ends})
    if p.kind == "record":
        record: Event = {"principal": person, "delegate": a, "scopes": ["orders.read"]}
        record |= {"not_before": p.ago(60 * DAY), "not_after": p.ago(-60 * DAY)}
        p.note("trust", "delegation_records", record, f"{p.name}-record")
    domains: Event = {"from_trust_domain": there, "to_trust_domain": TRUST_DOMAIN}
    if p.kind == "same_domain":
        domains["from_trust_domain"] = TRUST_DOMAIN
    assertion = {"role": "assertion", "issuer": issuer, "kind": "jti", "id": p.fresh("grant")}
    token = p.client_token(0, a, ("orders.read",), grant_type=ASSERTION, op="exchange", **domains)
    token |= {"subject_id": person, "subject_issuer": issuer, "subject_kind": "human"}
    token |= {"actor_id": a, "actor_issuer": AUTHZ, "actor_convention": "act"}
    token |= {"act_chain": [{"issuer": AUTHZ, "subject": a}], "parents": [assertion]}
    token["expires_at"] = token["issued_at"] + 300 * SECOND
    if p.kind == "record":
        token["delegation_record_id"] = f"{p.name}-record"
    p.may.add("GO-06")


@story("PC-10", "not_named nobody_named parent_not_allowed", "named nothing_said by_alias allowed")
def pc_10(p: Plot) -> None:
    """A token says who may act for its subject, and somebody else does."""
    a, c = p.agent("a"), p.agent("c")
    limits: Event = {}
    if p.kind == "parent_not_allowed":
        limits = {"allowed_parents": [c]}
    if p.kind == "allowed":
        limits = {"allowed_parents": [a]}
    spiffe = f"spiffe://{TRUST_DOMAIN}/agent/{p.name}-b"
    aliases = [{"issuer": AUTHZ, "subject": f"{p.name}-b"}, {"subject": spiffe}]
    b = p.agent("b", aliases=aliases, **limits)
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    names = {"not_named": c, "named": b, "by_alias": spiffe}
    if p.kind in names:
        issuer = None if p.kind == "by_alias" else AUTHZ
        root["may_act"] = [{"issuer": issuer, "subject": names[p.kind]}]
    if p.kind == "nobody_named":
        root["may_act"] = []
    token = p.exchange(p.some(20, 300), root, b, ("tickets.read",))
    if p.chance(0.5):
        p.call(400, token, TICKET)


@story("PC-11", "minutes_longer hours_longer", "within_tolerance refreshed transaction_token")
def pc_11(p: Plot) -> None:
    """A child lives on when its parent is over."""
    a, b = p.agent("a"), p.agent("b")
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    first = p.exchange(30, root, a, ("tickets.read",))
    end = first["expires_at"]
    if p.kind == "refreshed":
        p.refresh(3000, root)
        return
    more: Event = {}
    if p.kind == "transaction_token":
        more = {"token_type": "urn:ietf:params:oauth:token-type:txn_token"}
        more |= {"txn_id": f"{p.name}-txn"}
    late = p.kind in ("minutes_longer", "transaction_token", "within_tolerance")
    # Asked for at the last moment, it lives its own quarter of an hour or more.
    child = p.exchange(800, first, b, ("tickets.read",), **more)
    longer = p.some(200, 700) if late else p.some(HOUR + 300, 3 * HOUR)
    if p.kind == "within_tolerance":
        longer = p.some(1, MINUTE)
    if p.kind == "transaction_token":
        longer = 180
        child["issued_at"] = child["event_time"]
    child["expires_at"] = end + longer * SECOND
    if p.kind != "within_tolerance":
        p.may.add("LS-03")


@story("PC-12", "succeeded failed", "refused stepped_up unknown covered")
def pc_12(p: Plot) -> None:
    """A call needs what its token never had, and is let through."""
    a, b = p.agent("a"), p.agent("b")
    person, extra = p.person(), p.dice.choice((CRM, LEDGER, REPO, EXPORT, MAIL))
    held = ("tickets.read", extra.scope) if p.kind == "covered" else ("tickets.read",)
    root = p.grant(0, person, a, held)
    more: Event = {}
    if p.kind == "stepped_up":
        root = p.grant(40, person, a, ("tickets.read", extra.scope))
        held = ("tickets.read", extra.scope)
    token = p.exchange(60, root, b, held)
    if p.kind == "unknown":
        token |= {"scopes": [], "scope_known": False}
    if p.kind == "refused":
        more = {"outcome": "denied", "decision_effect": "deny"}
    if p.kind == "failed":
        more = {"outcome": p.dice.choice(("failure", "timeout"))}
    p.call(p.some(90, 400), token, p.dice.choice(SOME_TOOLS[:1]))
    p.call(p.some(90, 400), token, extra, **more)


@story("PC-13", "token call", "users_word inside_root")
def pc_13(p: Plot) -> None:
    """What an agent read told it to obtain or do what nobody had granted."""
    a, b = p.agent("a"), p.agent("b")
    source = p.dice.choice(("document", "tool_result", "child_result"))
    root_scopes = ("docs.read", "mail.send") if p.kind == "inside_root" else ("docs.read",)
    root = p.grant(0, p.person(), a, root_scopes)
    first = p.exchange(20, root, a, root_scopes)
    attack = p.kind in ("token", "call")
    told = {"instruction_source": "user" if p.kind == "users_word" else source}
    if p.kind in ("token", "users_word"):
        if p.kind == "users_word":
            root = p.grant(60, root["subject_id"], a, ("docs.read", "mail.send"))
            first = p.exchange(80, root, a, ("docs.read", "mail.send"))
        first = p.exchange(120, first, b, ("docs.read", "mail.send"), **told)
    p.call(p.some(150, 400), first, MAIL, **told)
    if attack:
        p.may.update(("PC-01", "PC-02", "PC-12"))
