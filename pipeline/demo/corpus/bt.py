"""Stories of broken trails and lost identity context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.demo.columns import SECOND
from pipeline.demo.company import AUTHZ, CLOUD, CLOUD_SOURCE, IDP, Tool
from pipeline.demo.corpus.catalogue import story
from pipeline.demo.corpus.plot import CRM, DAY, EXPORT, HOUR, MINUTE, TICKET, Plot

if TYPE_CHECKING:
    from pipeline.demo.script import Event

STOP = Tool("StopLogging", "cloudtrail:StopLogging", "admin_iam", "trail/main", 3)
DELETE = Tool("DeleteTrail", "cloudtrail:DeleteTrail", "delete", "trail/main", 3)
START = Tool("StartLogging", "cloudtrail:StartLogging", "admin_iam", "trail/main", 3)
AUDIT_OFF = Tool("sys/audit/file", "sudo", "delete", "sys/audit/file", 3)


@story("BT-01", "bare", "stdio in_process linked")
def bt_01(p: Plot) -> None:
    """A call over the network, and nobody can say with which credential."""
    a = p.agent("a")
    protocol = {"stdio": "mcp_stdio", "in_process": "function"}.get(p.kind)
    if p.kind == "linked":
        token = p.grant(0, p.person(), a, ("tickets.read",))
        token["txn_id"] = f"{p.name}-txn"
        named = {n: token[n] for n in ("subject_id", "subject_issuer", "subject_kind", "txn_id")}
        p.bare_call(60, a, TICKET, presented_audience=token["audience"], **named)
        p.keeps_order = True
        return
    more: Event = {"tool_protocol": protocol} if protocol else {}
    for turn in range(p.some(1, 3)):
        p.bare_call(60 + 100 * turn, a, p.dice.choice((TICKET, CRM)), **more)


@story("BT-02", "parent_missing key_from_nowhere", "foreign truncated parent_late parent_by_alias")
def bt_02(p: Plot) -> None:
    """A token says that it came from another, and that one never existed here."""
    a, b = p.agent("a"), p.agent("b")
    if p.kind == "key_from_nowhere":
        key: Event = {"credential_issuer": CLOUD, "credential_kind": "access_key_id"}
        key |= {"credential_id": f"ASIA{p.fresh('key', 16).upper()}", "scopes": [], "audience": []}
        key |= {"client_id": a}
        cloud: Event = {"source": CLOUD_SOURCE, "observer": "cloud_audit"}
        p.call(60, key, EXPORT, tool_protocol="cloud_api", required_scopes=[], **cloud)
        return
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    if p.kind == "foreign":
        issuer = f"https://as.{p.name}.example"
        away = {"trust_domain": f"{p.name}.example", "foreign_without_logs": True}
        p.note("trust", "issuers", away, issuer)
        edge = {"from_domain": f"{p.name}.example", "to_domain": "acme.example"}
        p.note("trust", "trust_edges", edge | {"issuer": issuer, "expires_at": p.ago(-90 * DAY)})
        token = p.exchange(60, root, b, ("tickets.read",))
        token["parents"] = [{"role": "assertion", "issuer": issuer, "kind": "jti", "id": "f-1"}]
        token |= {"subject_issuer": issuer, "family_id": None}
        return
    if p.kind == "truncated":
        # Its parent was made long before anybody kept logs here.
        p.events.clear()
        token = p.exchange(-130 * DAY, root, b, ("tickets.read",))
        token |= {"op": "introspect", "event_time": p.at(60), "expires_at": p.at(900)}
        token |= {"parents": [], "family_id": None, "grant_type": None}
        p.may.update(("LS-03", "LS-05"))
        p.keeps_order = True
        return
    token = p.exchange(60, root, b, ("tickets.read",))
    if p.kind == "parent_missing":
        token["parents"] = [{**token["parents"][0], "id": p.fresh("lost")}]
        token["family_id"], token["trace_id"] = None, p.fresh("trace")
        token["session_id"], token["subject_id"] = None, p.person("else")
    if p.kind == "parent_late":
        p.delay(root, p.some(100, 600))
        p.keeps_order = True
    if p.kind == "parent_by_alias":
        other = {"issuer": AUTHZ, "kind": "token_sha256", "id": p.fresh("digest", 64)}
        root["credential_aliases"] = [other]
        token["parents"] = [{"role": "subject", **other}]
    p.call(200, token, TICKET)


@story("BT-03", "impersonated shortened", "named_by_client same_actor agreed")
def bt_03(p: Plot) -> None:
    """After an exchange nobody can see any more who acts."""
    agreed = {"impersonation_allowed_until": p.ago(-90 * DAY)} if p.kind == "agreed" else {}
    a, b, c = p.agent("a"), p.agent("b", **agreed), p.agent("c")
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    nobody: Event = {"actor_id": None, "actor_issuer": None, "act_chain": []}
    if p.kind in ("impersonated", "agreed"):
        p.exchange(60, root, b, ("tickets.read",), actor_convention="impersonation", **nobody)
    elif p.kind == "named_by_client":
        p.exchange(60, root, b, ("tickets.read",), actor_convention="client_id", **nobody)
    else:
        first = p.exchange(60, root, b, ("tickets.read", "crm.read"))
        if p.kind == "same_actor":
            p.exchange(90, first, b, ("tickets.read",))
            return
        second = p.exchange(90, first, c, ("tickets.read",))
        second["act_chain"] = second["act_chain"][:1]
        # What was cut off no longer fits the parent's chain either.
        p.may.add("TR-11")


@story("BT-04", "swapped unmapped_abroad", "mapped alias kept")
def bt_04(p: Plot) -> None:
    """Half way down the chain it is suddenly on somebody else's behalf."""
    a, b = p.agent("a"), p.agent("b")
    ann, ben = p.person(), p.person("ben")
    root = p.grant(0, ann, a, ("tickets.read", "crm.read"))
    first = p.exchange(30, root, a, ("tickets.read", "crm.read"))
    who: Event = {}
    if p.kind in ("swapped", "mapped"):
        who = {"subject_id": ben}
    if p.kind == "mapped":
        fact = {"from_issuer": IDP, "from_subject": ann, "to_issuer": IDP, "to_subject": ben}
        p.note("trust", "identity_maps", fact | {"basis": "pairwise subject ids"})
    if p.kind == "unmapped_abroad":
        issuer, there = f"https://as.{p.name}.example", f"{p.name}.example"
        p.note("trust", "issuers", {"trust_domain": there}, issuer)
        edge = {"from_domain": "acme.example", "to_domain": there}
        p.note("trust", "trust_edges", edge | {"expires_at": p.ago(-90 * DAY)})
        who = {"subject_id": f"{p.name}-guest", "subject_issuer": issuer}
        who |= {"from_trust_domain": "acme.example", "to_trust_domain": there}
    if p.kind == "alias":
        # The agent's own token, under the two names that the registry knows.
        name = f"{p.name}-client-id"
        p.facts["agents.yaml"]["agents"][a]["aliases"].append({"subject": name})
        first = p.client_token(40, a, ("tickets.read",))
        p.events = [e for e in p.events if e[1] is first]
        who = {"subject_id": name, "subject_issuer": AUTHZ}
    p.exchange(p.some(60, 300), first, b, ("tickets.read",), **who)


@story("BT-05", "malformed truncated", "readable")
def bt_05(p: Plot) -> None:
    """The delegation is asserted, and cannot be read."""
    a, b, c = p.agent("a"), p.agent("b"), p.agent("c")
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    first = p.exchange(30, root, b, ("tickets.read",))
    token = p.exchange(60, first, c, ("tickets.read",))
    if p.kind == "malformed":
        token |= {"act_chain": [], "act_malformed_reason": "not an object"}
        token |= {"actor_id": None, "actor_issuer": None}
        p.may.update(("BT-03", "TR-11"))
    if p.kind == "truncated":
        token |= {"act_chain": token["act_chain"][:1], "act_truncated": True}
        p.may.update(("BT-03", "TR-11"))
    p.call(100, token, TICKET)


@story("BT-06", "static_hop same_trace_only", "carries_subject other_trace hours_later excepted")
def bt_06(p: Plot) -> None:
    """A person's request reaches an old system that knows only its service account."""
    keys: Event = {"kind": "service_account"}
    if p.kind == "excepted":
        keys["static_secret_exception_until"] = p.ago(-90 * DAY)
    a, legacy, key = p.agent("a"), p.agent("legacy", **keys), f"{p.name}-key"
    person = p.person()
    root = p.grant(0, person, a, ("tickets.read", "warehouse.export"))
    token = p.exchange(20, root, a, ("tickets.read", "warehouse.export"))
    call = p.call(60, token, TICKET, span_id=p.fresh("span", 16))
    more: Event = {"parent_span_id": call["span_id"], "span_id": p.fresh("child", 16)}
    if p.kind == "same_trace_only":
        more = {"span_id": p.fresh("child", 16)}
    if p.kind == "carries_subject":
        more |= {"subject_id": person, "subject_issuer": IDP, "subject_kind": "human"}
    if p.kind == "other_trace":
        more = {"trace_id": p.fresh("trace"), "session_id": p.fresh("session")}
    if p.kind == "hours_later":
        more = {"trace_id": p.fresh("trace"), "session_id": p.fresh("session")}
    after = 3 * HOUR if p.kind == "hours_later" else 60 + p.some(1, 20)
    p.key_call(after, legacy, key, EXPORT, **more)
    p.may.add("PC-03")
    if p.kind == "excepted":
        p.may.discard("PC-03")
    p.keeps_order = True


@story("BT-07", "hole one_sided", "steady slow_but_regular not_promised even_pair")
def bt_07(p: Plot) -> None:
    """A source stops speaking, or one side of a route knows of calls that the other does not.

    It always speaks again: the corpus is read from files, and a file's end is no silence.
    """
    p.tenant = p.name
    source = f"urn:{p.name}:gateway"
    pair = f"urn:{p.name}:runtime"
    promise: Event = {"tenant_id": p.tenant, "expected_interval_s": 1200, "grace_s": 60}
    if p.kind == "not_promised":
        promise = {"tenant_id": p.tenant}
    if p.kind in ("one_sided", "even_pair"):
        promise["paired_with"] = pair
        p.note("sources", "sources", {"tenant_id": p.tenant, "expected_interval_s": 1200}, pair)
    p.note("sources", "sources", promise, source)
    a = p.agent("a")
    step = 2400 if p.kind == "slow_but_regular" else 1100
    # A whole calendar day lies within.
    times = [p.to_end(at) for at in range(37 * HOUR, 2 * MINUTE, -step)]
    if p.kind in ("hole", "not_promised"):
        begins = p.to_end(p.some(8, 30) * HOUR)
        times = [at for at in times if not begins < at < begins + p.some(3, 6) * HOUR]
    token = p.client_token(times[0] - 60, a, ("tickets.read",), lives_s=37 * HOUR)
    token["source"] = source
    p.may.add("LS-03")
    for place, after in enumerate(times):
        call = p.call(after, token, TICKET, source=source)
        if p.kind in ("one_sided", "even_pair"):
            seen = p.seen_by_runtime(after, call, source=pair)
            if p.kind == "one_sided" and place % 3 and after > times[10]:
                # The resource server's side is missing for most of what the runtime did.
                p.events = [e for e in p.events if e[1] is not call]
                seen["phase"] = "single"
    p.keeps_order = True


@story("BT-08", "stopped deleted vault_audit_off", "refused started approved")
def bt_08(p: Plot) -> None:
    """Somebody turns off the camera."""
    tool = {"deleted": DELETE, "vault_audit_off": AUDIT_OFF, "started": START}.get(p.kind, STOP)
    a = p.agent("a")
    token = p.client_token(0, a, ("sudo", tool.scope))
    more: Event = {"tool_protocol": "cloud_api", "tool_server": "cloudtrail.amazonaws.com"}
    more |= {"operation": f"cloudtrail:{tool.name}", "presented_audience": []}
    token["audience"] = ["cloudtrail.amazonaws.com"]
    if p.kind == "vault_audit_off":
        more = {"tool_protocol": "http", "tool_server": "vault", "operation": "delete"}
        token["audience"] = ["vault"]
    if p.kind == "refused":
        more |= {"outcome": "denied", "decision_effect": "deny"}
    if p.kind == "approved":
        more |= {"approval_id": f"{p.name}-change", "args_hash": p.fresh("args", 64)}
        more |= {"approval_args_hash": more["args_hash"], "approval_expires_at": p.at(900)}
    p.call(p.some(60, 300), token, tool, **more)
    p.may.update(("PC-08", "GO-08"))


@story(
    "BT-09", "other_subject other_actor other_outcome", "agree by_alias not_over_yet answer_lost"
)
def bt_09(p: Plot) -> None:
    """The runtime and the gateway tell the same call differently."""
    spiffe = f"spiffe://acme.example/agent/{p.name}"
    aliases = [{"issuer": AUTHZ, "subject": f"{p.name}-a"}, {"subject": spiffe}]
    a, b = p.agent("a", aliases=aliases), p.agent("b")
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    token = p.exchange(20, root, a, ("tickets.read", "crm.read"))
    # What was refused at the door cannot have worked; an answer may be lost behind it.
    refused: Event = {"outcome": "denied", "decision_effect": "deny"}
    call = p.call(p.some(60, 200), token, TICKET, **(refused if p.kind == "other_outcome" else {}))
    ways: dict[str, Event] = {
        "other_outcome": {"outcome": "success"},
        "answer_lost": {"outcome": "failure"},
        "not_over_yet": {"outcome": "unknown", "phase": "pre"},
        "by_alias": {
            "agent_id": spiffe,
            "actor_id": spiffe,
            "actor_issuer": None,
            "agent_issuer": None,
        },
    }
    told = ways.get(p.kind, {})
    if p.kind == "other_subject":
        told = {"subject_id": p.person("ben")}
    if p.kind == "other_actor":
        p.own_work(b, -3000)
        told = {"actor_id": b, "agent_id": b, "act_chain": [{"issuer": AUTHZ, "subject": b}]}
        # The same credential seems to serve two agents then.
        p.may.update(("SP-03", "TR-10", "TR-08"))
    after = (call["event_time"] - p.begins) // SECOND
    p.seen_by_runtime(after + 1, call, **told)


@story("BT-10", "robot_account marked_by_idp", "person class_without_people")
def bt_10(p: Plot) -> None:
    """The person behind it is no person."""
    needs = p.kind != "class_without_people"
    a, b = p.agent("a", human_root_required=needs), p.agent("b", human_root_required=needs)
    who = p.person() if p.kind == "person" else f"{p.name}-robot@acme.example"
    if p.kind in ("robot_account", "class_without_people"):
        p.agent("robot", kind="agent_user", aliases=[{"issuer": IDP, "subject": who}])
    root = p.grant(0, who, a, ("tickets.read", "crm.read"))
    if p.kind == "marked_by_idp":
        root["subject_kind"] = "agent_user"
    token = p.exchange(30, root, b, ("tickets.read",))
    p.call(p.some(60, 300), token, TICKET)
