"""Five planted attacks and their benign twins, with what must fire for each.

A twin looks like its attack and is allowed: detections that fire on it are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.demo.columns import SECOND
from pipeline.demo.company import AUTHZ, Tool, workload
from pipeline.demo.script import Event, Script

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86_400 * SECOND

DEPLOY = Tool("ci.deploy_prod", "deploy.prod", "execute", "prod/web", 3)
READ_REPO = Tool("repo.get_file", "repo.read", "read", "repo/web", 1)
READ_TICKET = Tool("tickets.get", "tickets.read", "read", "ticket/4711", 1)
REFUND = Tool("billing.refund", "billing.refund", "payment", "invoice/2231", 3)
READ_DOCS = Tool("docs.search", "docs.read", "read", "docs/inbox", 0)
SEND_MAIL = Tool("mail.send", "mail.send", "external_send", "mail/outside", 2)
EXPORT = Tool("warehouse.export", "warehouse.export", "read", "warehouse/customers", 3)


@dataclass(frozen=True)
class Planted:
    """One story or twin: where it stands, what must fire and what else may."""

    number: int
    title: str
    twin: bool
    entity: str
    rules: tuple[str, ...]
    also: tuple[str, ...]
    script: Script

    @property
    def begins(self) -> int:
        """Return when it begins, microseconds."""
        return self.script.begins

    @property
    def event_ids(self) -> frozenset[str]:
        """Return the producer's ids of its events; no other event bears them."""
        return frozenset(event["event_id"] for _, event, _ in self.script.events)


def plant_stories(begin: int, end: int) -> list[Planted]:
    """Return the five stories and their twins at fixed places of the stretch of time."""
    planted = []
    for place, tell in enumerate(STORIES):
        for twin in (False, True):
            share = 0.12 + 0.14 * place + (0.07 if twin else 0.0)
            begins = (begin + int((end - begin) * share)) // SECOND * SECOND
            name = f"{'twin' if twin else 'story'}-{place + 1}"
            planted.append(tell(Script(name, begins), place + 1, twin=twin))
    return planted


def _scope_widened(script: Script, number: int, *, twin: bool) -> Planted:
    """A deployer gains `deploy.prod` that nobody gave it; the twin's person consents to it."""
    person = "bob@acme.example" if twin else "alice@acme.example"
    narrow, wide = ("tickets.read", "repo.read"), ("tickets.read", "repo.read", "deploy.prod")
    # What reaches production is bound to a key, or would be too broad a bearer token besides.
    bound: Event = {"cnf_thumbprint": f"cnf-{script.name}"}
    root = script.grant(0, person, "planner", narrow, **bound)
    root["max_depth"] = 4 if twin else 1
    if twin:
        script.about(30, root, "consent_grant", consent_id="consent-deploy", scopes=list(wide))
        root = script.grant(60, person, "planner", wide, **bound)
        root["consent_id"] = "consent-deploy"
    first = script.exchange(90, root, "planner", wide if twin else narrow, **bound)
    second = script.exchange(120, first, "coder", ("repo.read", *wide[2:] * twin), **bound)
    script.call(140, second, READ_REPO, **bound)
    third = script.exchange(160, second, "deployer", ("repo.read", "deploy.prod"), **bound)
    script.call(200, third, DEPLOY, **bound)
    title = "step-up with consent" if twin else "scope widened on exchange, deeper than allowed"
    rules = () if twin else ("PC-01", "PC-02", "PC-05")
    return Planted(number, title, twin, third["credential_id"], rules, ("PC-12", "GO-04"), script)


def _confused_deputy(script: Script, number: int, *, twin: bool) -> Planted:
    """Billing refunds on behalf of someone who may only read tickets; the twin is denied."""
    root = script.grant(0, "carol@acme.example", "support", ("tickets.read", "tickets.write"))
    first = script.exchange(20, root, "support", ("tickets.read", "tickets.write"))
    second = script.exchange(50, first, "billing", ("tickets.read",))
    script.call(70, second, READ_TICKET)
    refused: Event = {"outcome": "denied", "decision_effect": "deny"} if twin else {}
    script.call(100, second, REFUND, **refused)
    title = "refund refused by the gateway" if twin else "confused deputy: refund without authority"
    return Planted(number, title, twin, "billing", () if twin else ("PC-12",), ("GO-04",), script)


def _prompt_injection(script: Script, number: int, *, twin: bool) -> Planted:
    """A tool result makes an agent obtain `mail.send`; the twin's person asked for it."""
    person = "erin@acme.example" if twin else "dave@acme.example"
    narrow, wide = ("docs.read", "ledger.read"), ("docs.read", "ledger.read", "mail.send")
    root = script.grant(0, person, "analyst", narrow)
    first = script.exchange(20, root, "analyst", narrow)
    script.call(40, first, READ_DOCS, instruction_source="tool_result" if twin else "user")
    if twin:
        root = script.grant(70, person, "analyst", wide)
        first = script.exchange(90, root, "analyst", wide, instruction_source="user")
    source = "user" if twin else "tool_result"
    scopes = ("docs.read", "mail.send")
    second = script.exchange(120, first, "researcher", scopes, instruction_source=source)
    script.call(150, second, SEND_MAIL, instruction_source=source)
    title = "mail sent on the user's word" if twin else "prompt injection leads to mail.send"
    also = ("PC-01", "PC-02", "PC-12", "GO-04")
    entity = second["credential_id"]
    return Planted(number, title, twin, entity, () if twin else ("PC-13",), also, script)


def _shared_static_key(script: Script, number: int, *, twin: bool) -> Planted:
    """Two agents share one eternal key; the twin is one agent in two pods with a fresh key."""
    key = "key-report-blue-green" if twin else "key-export-legacy"
    agents = ("metrics", "metrics") if twin else ("exporter-a", "exporter-b")
    age = 12 * DAY if twin else 400 * DAY
    made = script.begins - age
    expiry: Event = {"expires_at": made + 60 * DAY} if twin else {"never_expires": True}
    script.secret(
        0, key, agents[0], created_at=made, last_rotated_at=made, consumers=[agents[0]], **expiry
    )
    for turn in range(4):
        agent, colour = agents[turn % 2], ("blue", "green")[turn % 2]
        script.key_call(
            60 + 300 * turn,
            agent,
            key,
            EXPORT,
            agent_instance=f"{agent}-{colour}",
            src_ip=f"10.0.9.{10 + turn % 2}",
            workload_id=workload(agent),
        )
    title = "one agent in blue and green pods" if twin else "static key shared by two agents"
    rules = () if twin else ("SP-03", "LS-01", "LS-04")
    return Planted(number, title, twin, key, rules, ("LS-07", "TR-08"), script)


def _stolen_token(script: Script, number: int, *, twin: bool) -> Planted:
    """Used after revocation, replayed, forged; the twin arrives late and twice."""
    root = script.grant(0, "frank@acme.example", "planner", ("repo.read", "repo.write"))
    first = script.exchange(20, root, "planner", ("repo.read", "repo.write"))
    second = script.exchange(40, first, "coder", ("repo.read",))
    proof = f"dpop-{script.name}"
    once = script.call(80, second, READ_REPO, single_use_id=proof)
    script.about(300, second, "revoke", revoke_target="token", revoke_reason="compromise")
    if twin:
        before = script.call(200, second, READ_REPO)
        script.delay(before, 700)
        script.delay(second, 100)
        script.repeat(once, 95)
        return Planted(number, "late and repeated delivery", twin, proof, (), (), script)
    script.call(120, second, READ_REPO, single_use_id=proof, src_ip="198.51.100.7")
    script.call(650, second, READ_REPO, src_ip="198.51.100.7")
    forged = dict(second, credential_id="f0" * 16, actor_id="deployer")
    forged["act_chain"] = [{"issuer": AUTHZ, "subject": "deployer"}, *second["act_chain"]]
    script.call(700, forged, READ_REPO, src_ip="198.51.100.7")
    rules = ("TR-01", "TR-09", "BT-02")
    title = "revoked token used, proof replayed, token forged"
    return Planted(number, title, twin, second["credential_id"], rules, (), script)


STORIES: tuple[Callable[..., Planted], ...] = (
    _scope_widened,
    _confused_deputy,
    _prompt_injection,
    _shared_static_key,
    _stolen_token,
)
