"""One planting: its events, its own people and agents, and what must be found in it.

Everything it names bears its own name, a letter and four digits that say nothing
about what it is, so a finding can be told to belong to it even without events.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.demo.columns import SECOND
from pipeline.demo.company import (
    AUTHZ,
    CLOUD,
    CLOUD_SOURCE,
    RUNTIME_SOURCE,
    TENANT,
    TRUST_DOMAIN,
    VAULT_SOURCE,
    Tool,
    workload,
)
from pipeline.demo.script import Event, Script

MINUTE, HOUR, DAY = 60, 3_600, 86_400
CLASS = "planted"
OWNERS = ("judy@acme.example", "uma@acme.example", "grace@acme.example")
REFRESH, ASSERTION = "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"

TICKET = Tool("tickets.get", "tickets.read", "read", "ticket/4711", 1)
REPLY = Tool("tickets.reply", "tickets.write", "write", "ticket/4711", 1)
CRM = Tool("crm.lookup", "crm.read", "read", "crm/customer", 2)
REPO = Tool("repo.get_file", "repo.read", "read", "repo/web", 1)
MAIL = Tool("mail.send", "mail.send", "external_send", "mail/outside", 2)
EXPORT = Tool("warehouse.export", "warehouse.export", "read", "warehouse/customers", 3)
LEDGER = Tool("ledger.list_entries", "ledger.read", "read", "ledger/2026", 2)
ADMIN = Tool("iam.grant_role", "iam.admin", "admin_iam", "iam/role", 3)
METRICS = Tool("metrics.push", "metrics.write", "write", "metrics/app", 0)
REFUND = Tool("billing.refund", "billing.refund", "payment", "invoice/2231", 3)
SOME_TOOLS = (TICKET, REPLY, CRM, REPO, LEDGER)

OF_THE_GRANT = (
    *("client_id", "subject_id", "subject_issuer", "subject_kind", "actor_id", "actor_issuer"),
    *("actor_convention", "act_chain", "family_id", "consent_id"),
)

Facts = dict[str, Any]


@dataclass
class Plot(Script):
    """A script that also knows its truth, its registry entries and its own dice."""

    kind: str = ""
    end: int = 0
    """When the stream ends, microseconds."""
    dice: random.Random = field(default_factory=random.Random)
    must: set[str] = field(default_factory=set)
    may: set[str] = field(default_factory=set)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Registry file to section to entries; a mapping where the section is one, else a list."""
    keeps_order: bool = False
    """Its events must neither be late nor repeated nor lose fields: that is its point."""
    tenant: str = TENANT

    # What the registry says.

    def note(self, file: str, section: str, entry: Facts, name: str | None = None) -> None:
        """Add one entry to a section of the registry, by name where the section has names."""
        sections = self.facts.setdefault(f"{file}.yaml", {})
        if name is None:
            sections.setdefault(section, []).append(entry)
        else:
            sections.setdefault(section, {})[name] = entry

    def agent(self, role: str = "a", **keys: Any) -> str:
        """Register an agent with every owner and nothing to complain about; return its id."""
        name = f"{self.name}-{role}"
        entry = {
            "kind": "agent",
            "class": CLASS,
            "aliases": [{"issuer": AUTHZ, "subject": name}, {"subject": workload(name)}],
            "owner_iam": OWNERS[0],
            "owner_platform": OWNERS[1],
            "owner_application": OWNERS[2],
            "business_units": ["engineering"],
            "trust_domain": TRUST_DOMAIN,
            "environment": "prod",
            "status": "active",
            "registered_at": self.ago(200 * DAY),
            "last_reviewed_at": self.ago(60 * DAY),
            "review_due_at": self.ago(-200 * DAY),
        } | keys
        self.note("agents", "agents", {k: v for k, v in entry.items() if v is not None}, name)
        return name

    def person(self, role: str = "ann", **keys: Any) -> str:
        """Add somebody of its own to the people; return the address."""
        name = f"{self.name}-{role}@acme.example"
        self.note("people", "people", {"status": "active"} | keys, name)
        return name

    def group_of_agents(self, **keys: Any) -> str:
        """Add a class of its own with a valid sign-off; return its name."""
        name = f"{self.name}-class"
        self.note("classes", "classes", {"version": "1"} | keys, name)
        self.sign(name)
        return name

    def sign(self, of_class: str, **keys: Any) -> None:
        """Add a sign-off of a class that holds today unless said otherwise."""
        entry = {
            "class": of_class,
            "version": "1",
            "approver": "peggy@acme.example",
            "role": "security",
            "signed_at": self.ago(180 * DAY),
            "expires_at": self.ago(-90 * DAY),
        }
        self.note("signoffs", "signoffs", entry | keys)

    # Times.

    def ago(self, seconds: int) -> datetime:
        """Return a time so many seconds before the end of the stream."""
        return datetime.fromtimestamp(self.end // SECOND - seconds, UTC)

    def micros_ago(self, seconds: int) -> int:
        """Return the same as microseconds since 1970."""
        return self.end - seconds * SECOND

    def to_end(self, seconds: int) -> int:
        """Return the offset of a time so many seconds before the end, for the event methods."""
        return (self.end - self.begins) // SECOND - seconds

    def at(self, after_s: int) -> int:
        """Return the microseconds of an offset."""
        return self._at(after_s)

    def moment(self, after_s: int) -> datetime:
        """Return the time of an offset, for the registry."""
        return datetime.fromtimestamp(self._at(after_s) // SECOND, UTC)

    def some(self, low: int, high: int) -> int:
        """Return a whole number between two, both included."""
        return self.dice.randint(low, high)

    def chance(self, share: float) -> bool:
        """Return true in a share of all plantings."""
        return self.dice.random() < share

    # Events.

    def told(self, family: str) -> list[Event]:
        """Return the events of one family so far."""
        return [event for name, event, _ in self.events if name == family]

    def fresh(self, what: str, digits: int = 32) -> str:
        """Return a new id of its own."""
        return self._id(what, digits)

    def client_token(
        self, after_s: int, agent: str, scopes: tuple[str, ...], lives_s: int = 3600, **more: Any
    ) -> Event:
        """An agent obtains a token for itself."""
        event: Event = {
            "op": "issue",
            "grant_type": "client_credentials",
            "client_id": agent,
            "subject_id": agent,
            "subject_issuer": AUTHZ,
            "subject_kind": "workload",
            "actor_convention": "none",
            "scopes": list(scopes),
            "lives_s": lives_s,
            "auth_time": None,
            "family_id": None,
        }
        return self._token(after_s, **(event | more))

    def exchange(
        self, after_s: int, parent: Event, agent: str, scopes: tuple[str, ...], **more: Any
    ) -> Event:
        """An agent that may present its caller's token exchanges it for one of its own."""
        holder = parent.get("actor_id") or parent["client_id"]
        agents = self.facts.get("agents.yaml", {}).get("agents", {})
        if holder != agent and holder in agents and agent in agents:
            # Without a word in the registry, presenting it would be somebody else's token.
            allowed = agents[agent].setdefault("delegate_for", [])
            if holder not in allowed:
                allowed.append(holder)
        return super().exchange(after_s, parent, agent, scopes, **more)

    def refresh(
        self, after_s: int, parent: Event, scopes: tuple[str, ...] | None = None, **more: Any
    ) -> Event:
        """The holder of a grant obtains a new access token of the same family."""
        event = {name: parent.get(name) for name in OF_THE_GRANT} | {
            "op": "refresh",
            "grant_type": REFRESH,
            "scopes": list(scopes or parent["scopes"]),
            "lives_s": 3600,
            "auth_time": parent.get("auth_time"),
            "parents": [link(parent, "refresh")],
        }
        return self._token(after_s, **(event | more))

    def assume(
        self, after_s: int, parent: Event | None, role: str, account: str, **more: Any
    ) -> Event:
        """A key assumes a cloud role for a quarter of an hour."""
        event: Event = {
            "source": CLOUD_SOURCE,
            "observer": "cloud_audit",
            "op": "assume",
            "grant_type": "assume_role",
            "credential_issuer": CLOUD,
            "credential_kind": "access_key_id",
            "credential_id": f"ASIA{self._id('key', 16).upper()}",
            "token_type": "aws_session",
            "actor_id": f"arn:aws:iam::{account}:role/{role}",
            "actor_issuer": f"aws:{account}",
            "actor_convention": "role_session",
            "scopes": [],
            "requested_scopes": [],
            "scope_known": False,
            "scope_dialect": "aws",
            "audience": [],
            "lives_s": 900,
            "parents": [link(parent, "source")] if parent else [],
            "client_id": None,
        }
        if parent:
            event |= {n: parent.get(n) for n in ("subject_id", "subject_issuer", "subject_kind")}
        return self._token(after_s, **(event | more))

    def vault(self, after_s: int, op: str, secret: str, agent: str | None, **more: Any) -> Event:
        """The secret store reports an operation on a secret."""
        event: Event = {
            "source": VAULT_SOURCE,
            "observer": "secret_store",
            "op": op,
            "snapshot_complete": None,
            "bound_identity_id": None,
            "bound_identity_issuer": None,
            "accessed_by_id": agent,
            "accessed_by_issuer": AUTHZ if agent else None,
        }
        return self.secret(after_s, secret, agent or "", **(event | more))

    def seen_by_runtime(self, after_s: int, call: Event, **more: Any) -> Event:
        """The agent's own runtime reports a call that the gateway has reported."""
        event = dict(call) | self._envelope(RUNTIME_SOURCE)
        event |= {"observer": "agent_runtime", "phase": "post", "decision_effect": "none"}
        event |= {"single_use_id": None, **more}
        return self._add("tool_call", after_s, event)

    def own_work(self, agent: str, after_s: int = 0) -> None:
        """An agent does a bit of its own business with a token of its own."""
        token = self.client_token(after_s, agent, ("tickets.read",))
        token |= {"trace_id": self.fresh("own trace"), "session_id": self.fresh("own session")}
        self.call(after_s + 40, token, TICKET, agent_instance=f"{agent}-own")

    def bare_call(self, after_s: int, agent: str, tool: Tool, **more: Any) -> Event:
        """An agent calls a tool, and nobody notes with which credential."""
        event = self._envelope(more.pop("source", "urn:acme:gateway"))
        return self._add("tool_call", after_s, event | self.tool_fields(agent, tool) | more)

    def _envelope(self, source: str) -> Event:
        return super()._envelope(source) | {"tenant_id": self.tenant}


def link(parent: Event, role: str = "subject") -> dict[str, str]:
    """Return the entry of `parents` that names a token."""
    return {
        "role": role,
        "issuer": parent["credential_issuer"],
        "kind": parent["credential_kind"],
        "id": parent["credential_id"],
    }
