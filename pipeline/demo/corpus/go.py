"""Stories of governance and ownership."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.demo.company import KEYS, TRUST_DOMAIN
from pipeline.demo.corpus.catalogue import story
from pipeline.demo.corpus.plot import (
    CRM,
    DAY,
    HOUR,
    MINUTE,
    REFUND,
    TICKET,
    Plot,
)

if TYPE_CHECKING:
    from pipeline.demo.script import Event

BROWSER = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.1 Safari"


def _works(p: Plot, agent: str, begins: int = 0) -> None:
    """The agent obtains a token for itself and uses it once or twice."""
    token = p.client_token(begins, agent, ("tickets.read",))
    for turn in range(p.some(1, 2)):
        p.call(begins + 60 + 100 * turn, token, TICKET)


@story("GO-01", "nobody empty_group unknown_group", "owned onboarding group decommissioned")
def go_01(p: Plot) -> None:
    """Nobody answers for an agent."""
    role = p.dice.choice(("owner_iam", "owner_platform", "owner_application"))
    owner = f"{p.name}-team"
    keys: Event = {role: owner}
    if p.kind in ("nobody", "onboarding", "decommissioned"):
        keys = {role: None}
    if p.kind == "onboarding":
        keys["registered_at"] = p.ago(p.some(5, 60) * HOUR)
        keys |= {"last_reviewed_at": None}
    if p.kind == "decommissioned":
        keys |= {"status": "decommissioned", "status_since": p.ago(40 * DAY)}
    if p.kind in ("empty_group", "group"):
        members = [p.person("member")] if p.kind == "group" else []
        p.note("people", "groups", {"members": members}, owner)
    if p.kind == "owned":
        keys = {role: p.person("owner")}
    a = p.agent("a", **keys)
    if p.kind != "decommissioned" and (p.kind == "owned" or p.chance(0.6)):
        _works(p, a)


@story("GO-02", "left", "left_this_week on_leave_with_backup stays")
def go_02(p: Plot) -> None:
    """The owner has left, the agent has not."""
    role = p.dice.choice(("owner_iam", "owner_platform", "owner_application"))
    keys: Event = {}
    state: Event = {"status": "active"}
    if p.kind in ("left", "left_this_week"):
        days = p.some(1, 5) if p.kind == "left_this_week" else p.some(10, 80)
        state = {"status": "left", "left_at": p.ago(days * DAY)}
    if p.kind == "on_leave_with_backup":
        state = {"status": "on_leave", "left_at": p.ago(40 * DAY)}
        keys["backup_owner"] = p.person("backup")
    a = p.agent("a", **{role: p.person("owner", **state)}, **keys)
    _works(p, a)
    # An owner who is gone is nobody who could answer.
    p.may.update(("GO-01",) if p.kind.startswith("left") else ())


@story("GO-03", "unsigned expired other_version other_hash", "signed idle")
def go_03(p: Plot) -> None:
    """Agents of a class act that nobody approved as it is."""
    name = f"{p.name}-class"
    p.note("classes", "classes", {"version": "2", "max_depth": 4}, name)
    if p.kind in ("signed", "idle"):
        p.sign(name, version="2")
    if p.kind == "expired":
        p.sign(name, version="2", signed_at=p.ago(200 * DAY), expires_at=p.ago(9 * DAY))
    if p.kind == "other_version":
        p.sign(name, version="1")
    if p.kind == "other_hash":
        p.sign(name, version="2", scope_hash="0123456789abcdef")
    a = p.agent("a", **{"class": name})
    if p.kind == "idle":
        _works(p, p.agent("b"))
    else:
        _works(p, a)


@story("GO-04", "tool audience scope environment", "inside nothing_said further_environment")
def go_04(p: Plot) -> None:
    """It does what it was not signed off for."""
    envelope: Event = {
        "expected_tools": [TICKET.name],
        "expected_audiences": ["https://api.acme.example"],
        "scope_ceiling": ["tickets.read"],
    }
    if p.kind == "nothing_said":
        envelope = {}
    if p.kind == "further_environment":
        envelope["environments"] = ["stage"]
    a = p.agent("a", **envelope)
    scopes = ("tickets.read", "crm.read") if p.kind == "scope" else ("tickets.read",)
    elsewhere = [f"https://{p.name}.acme.example"]
    where: Event = {"audience": elsewhere} if p.kind == "audience" else {}
    token = p.client_token(0, a, scopes, **where)
    tool = CRM if p.kind == "tool" else TICKET
    more: Event = {"required_scopes": ["tickets.read"]}
    if p.kind in ("environment", "further_environment"):
        more["environment"] = token["environment"] = "stage"
    if p.kind == "audience":
        more["tool_server"] = token["audience"][0]
    for turn in range(p.some(1, 3)):
        p.call(60 + 200 * turn, token, tool, **more)
    p.may.update(("SP-06",) if p.kind in ("tool", "audience", "scope") else ())
    p.may.update(("PC-02",) if p.kind == "scope" else ())


@story("GO-05", "decommissioned suspended", "before_the_end same_minute active")
def go_05(p: Plot) -> None:
    """It was switched off, and works on."""
    since = {"before_the_end": 3 * HOUR, "same_minute": 30}.get(p.kind, -p.some(2, 30) * HOUR)
    status = "suspended" if p.kind == "suspended" else "decommissioned"
    keys: Event = {"status": status, "status_since": p.moment(since)}
    if p.kind == "active":
        keys = {}
    a = p.agent("a", **keys)
    _works(p, a) if p.kind != "same_minute" else p.client_token(p.some(40, 100), a, ("x.y",))
    if p.kind == "before_the_end":
        for event in p.told("tool_call"):
            p.delay(event, 3 * HOUR + 600)
        p.keeps_order = True


@story("GO-06", "broker two_units one_token_two_units", "recorded shared_service one_unit")
def go_06(p: Plot) -> None:
    """It acts for several units, and nobody wrote down that it may."""
    person = p.person()
    keys: Event = {"is_broker": p.kind in ("broker", "recorded")}
    if p.kind in ("broker", "recorded", "shared_service"):
        keys["business_units"] = ["engineering", "finance"]
    if p.kind == "shared_service":
        keys["shared_units"] = ["engineering", "finance"]
    a = p.agent("a", **keys)
    units = ("engineering",) if p.kind == "one_unit" else ("engineering", "finance")
    token: Event | None = None
    for place, unit in enumerate(units):
        record = f"{p.name}-record-{unit}"
        own: Event = {"business_unit": unit}
        if p.kind == "recorded":
            fact: Event = {"principal": person, "delegate": a, "business_unit": unit}
            fact |= {"scopes": ["tickets.read"], "not_before": p.ago(60 * DAY)}
            p.note("trust", "delegation_records", fact | {"not_after": p.ago(-60 * DAY)}, record)
            own["delegation_record_id"] = record
        begins = 30 + place * p.some(5, 60) * MINUTE
        if token is None or p.kind != "one_token_two_units":
            root = p.grant(begins, person, a, ("tickets.read",), **own)
            token = p.exchange(begins + 10, root, a, ("tickets.read",), **own)
            token["expires_at"] = token["issued_at"] + 900 * 1_000_000
        else:
            begins = 400
        p.call(begins + 100, token, TICKET, **own)
    p.keeps_order = True


@story("GO-07", "no_review key_outside", "reviewed pilot own_agent")
def go_07(p: Plot) -> None:
    """A vendor runs it, and nobody looked at the vendor."""
    keys: Event = {"vendor_hosted": p.kind != "own_agent", "vendor": f"{p.name} Inc."}
    if p.kind in ("reviewed", "key_outside"):
        keys["vendor_review_id"] = f"{p.name}-review"
    if p.kind == "pilot":
        keys["vendor_exception_until"] = p.ago(-30 * DAY)
    a = p.agent("a", **keys)
    if p.kind == "key_outside":
        key = f"{p.name}-key"
        made: Event = {"created_at": p.micros_ago(30 * DAY), "store": "vendor"}
        made |= {"expires_at": p.micros_ago(-30 * DAY), "last_used_at": p.micros_ago(HOUR)}
        p.secret(p.to_end(3 * HOUR), key, a, **made)
        p.key_call(60, a, key, TICKET)
    else:
        _works(p, a)


@story("GO-08", "none other_arguments expired reused", "approved refused harmless")
def go_08(p: Plot) -> None:
    """Money moves, and nobody said yes to exactly that."""
    a = p.agent("a", approval_required_for=["payment", "delete"])
    scopes = ("billing.refund", "tickets.read")
    token = p.client_token(0, a, scopes, cnf_thumbprint=p.fresh("cnf", 43))
    bound: Event = {"cnf_thumbprint": token["cnf_thumbprint"]}
    digest = p.fresh("args", 64)
    call: Event = {"args_hash": digest, **bound}
    if p.kind not in ("none", "refused", "harmless"):
        call |= {"approval_id": f"{p.name}-yes", "approval_args_hash": digest}
        call["approval_expires_at"] = p.at(3000)
    if p.kind == "other_arguments":
        call["approval_args_hash"] = p.fresh("other args", 64)
    if p.kind == "expired":
        call["approval_expires_at"] = p.at(-p.some(900, 9000))
    if p.kind == "refused":
        call |= {"outcome": "denied", "decision_effect": "deny"}
    tool = TICKET if p.kind == "harmless" else REFUND
    p.call(p.some(100, 300), token, tool, **call)
    if p.kind == "reused":
        p.call(p.some(600, 900), token, tool, **call)
        p.may.add("TR-09")


@story("GO-09", "review_overdue past_its_end", "reviewed gone extended")
def go_09(p: Plot) -> None:
    """Nobody has looked at it for a year, or it should be gone."""
    keys: Event = {}
    if p.kind in ("review_overdue", "gone"):
        days = p.some(5, 60)
        keys = {"review_due_at": p.ago(days * DAY), "last_reviewed_at": p.ago((days + 365) * DAY)}
        keys["registered_at"] = p.ago((days + 400) * DAY)
    if p.kind == "past_its_end":
        keys = {"valid_until": p.ago(p.some(2, 60) * DAY)}
    if p.kind == "extended":
        keys = {"valid_until": p.ago(-60 * DAY)}
    if p.kind == "gone":
        keys |= {"status": "decommissioned", "status_since": p.ago(90 * DAY)}
    a = p.agent("a", **keys)
    if p.kind != "gone" and p.chance(0.7):
        _works(p, a)


@story("GO-10", "person_with_agents_key agent_with_persons_key", "break_glass by_itself")
def go_10(p: Plot) -> None:
    """A person works with an agent's key, or an agent with a person's."""
    keys: Event = {}
    if p.kind == "break_glass":
        window = {"since": p.moment(-HOUR), "until": p.moment(6 * HOUR)}
        keys["break_glass"] = [{"ticket": f"{p.name}-ticket", **window}]
    key = f"{p.name}-key"
    if p.kind != "agent_with_persons_key":
        keys["credential_ids"] = [{"issuer": KEYS, "kind": "api_key_id", "id": key}]
    a = p.agent("a", **keys)
    p.may.update(("LS-09", "SP-03", "TR-08"))
    if p.kind == "agent_with_persons_key":
        owner = p.person()
        made: Event = {"created_at": p.micros_ago(20 * DAY), "expires_at": p.micros_ago(-DAY)}
        made |= {"secret_kind": "pat", "bound_identity_issuer": None, "consumers": [owner]}
        p.secret(-2 * HOUR, key, owner, last_used_at=p.micros_ago(DAY), **made)
        p.key_call(60, a, key, TICKET, user_agent="python-httpx/0.28")
        # Reading somebody else's key is a finding of its own.
        p.may.add("LS-10")
        return
    p.key_call(60, a, key, TICKET, user_agent="python-httpx/0.28")
    if p.kind in ("person_with_agents_key", "break_glass"):
        p.key_call(p.some(900, 4000), a, key, TICKET, user_agent=BROWSER, workload_id=None)


@story("GO-11", "issued_elsewhere same_value", "by_design unknown own_environment")
def go_11(p: Plot) -> None:
    """A credential of one environment opens another."""
    both = {"environments": ["dev", "test"]} if p.kind == "by_design" else {}
    a, b = p.agent("a", **both), p.agent("b", environment="dev", **both)
    if p.kind == "same_value":
        for agent, where in ((a, "prod"), (b, "dev")):
            made: Event = {"created_at": p.micros_ago(20 * DAY), "consumers": [agent]}
            made |= {"expires_at": p.micros_ago(-30 * DAY), "last_used_at": p.micros_ago(DAY)}
            name = f"{p.name}-{where}"
            p.secret(-HOUR, name, agent, environment=where, fingerprint=f"{p.name}-v", **made)
        # One value for two agents is a shared credential as well.
        p.may.add("SP-03")
        return
    token = p.client_token(0, a, ("tickets.read",))
    # An issuer of production alone; one that serves all environments says nothing by its own.
    token["credential_issuer"] = f"https://as.{p.name}.acme.example"
    p.note("trust", "issuers", {"trust_domain": TRUST_DOMAIN}, token["credential_issuer"])
    where = {"unknown": "unknown", "own_environment": "prod"}.get(p.kind, "dev")
    for turn in range(p.some(1, 3)):
        p.call(60 + 200 * turn, token, TICKET, environment=where)
    p.may.update(("GO-04",) if p.kind == "issued_elsewhere" else ())
