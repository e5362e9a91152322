"""Events of a story, written one by one: grants, exchanges, calls, secrets.

Only for the planted stories, which are a few dozen events; ordinary traffic is
built by columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.demo.columns import SECOND
from pipeline.demo.company import (
    AUTHZ,
    AUTHZ_SOURCE,
    GATEWAY_SOURCE,
    IDP,
    KEYS,
    SCANNER_SOURCE,
    TENANT,
    TRUST_DOMAIN,
    Tool,
    workload,
)
from pipeline.events.schema import contract_schema, defaults

if TYPE_CHECKING:
    from collections.abc import Sequence

Event = dict[str, Any]
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
AUDIENCE = ("https://api.acme.example",)


@dataclass
class Script:
    """Collects the events of one story with the time at which each arrives (microseconds)."""

    name: str
    begins: int
    events: list[tuple[str, Event, int]] = field(default_factory=list)

    def grant(
        self, after_s: int, person: str, agent: str, scopes: tuple[str, ...], **more: Any
    ) -> Event:
        """A person signs in and gives an agent a first token of an hour."""
        event: Event = {
            "op": "issue",
            "grant_type": "authorization_code",
            "client_id": agent,
            "subject_id": person,
            "subject_issuer": IDP,
            "subject_kind": "human",
            "actor_convention": "none",
            "scopes": list(scopes),
            "lives_s": 3600,
            "consent_id": f"consent-{self._id('consent')}",
            "family_id": f"family-{self._id('family')}",
            "max_depth": 4,
            "instruction_source": "user",
        }
        return self._token(after_s, **(event | more))

    def exchange(
        self, after_s: int, parent: Event, agent: str, scopes: tuple[str, ...], **more: Any
    ) -> Event:
        """An agent exchanges a token for one of its own, never outliving it."""
        chain = list(parent["act_chain"])
        if not chain or chain[0]["subject"] != agent:
            chain.insert(0, {"issuer": AUTHZ, "subject": agent})
        link = {
            "role": "subject",
            "issuer": parent["credential_issuer"],
            "kind": parent["credential_kind"],
            "id": parent["credential_id"],
        }
        left_s = (parent["expires_at"] - self._at(after_s)) // SECOND
        event: Event = {
            "op": "exchange",
            "grant_type": EXCHANGE,
            "client_id": agent,
            "actor_id": agent,
            "actor_issuer": AUTHZ,
            "actor_convention": "act",
            "act_chain": chain,
            "parents": [link],
            "scopes": list(scopes),
            "lives_s": min(900, left_s),
            "instruction_source": "agent",
            "family_id": parent.get("family_id"),
        }
        event |= {
            name: parent.get(name) for name in ("subject_id", "subject_issuer", "subject_kind")
        }
        return self._token(after_s, **(event | more))

    def about(self, after_s: int, token: Event, op: str, **more: Any) -> Event:
        """Something happens to a token that was issued before: revoked, consented to."""
        kept = ("subject_id", "subject_issuer", "subject_kind", "act_chain", "client_id")
        names = ("credential_issuer", "credential_kind", "credential_id", *kept)
        event = {name: token.get(name) for name in names}
        return self._add(
            "token_event",
            after_s,
            self._envelope(AUTHZ_SOURCE)
            | event
            | {"observer": "authz_server", "op": op, "outcome": "success", **more},
        )

    def call(self, after_s: int, token: Event, tool: Tool, **more: Any) -> Event:
        """The token's actor calls a tool through the gateway."""
        agent = token.get("actor_id") or token["client_id"]
        named = ("trace_id", "session_id", "subject_id", "subject_issuer", "subject_kind")
        kept = (*named, "actor_id", "actor_issuer", "actor_convention", "act_chain")
        names = (*kept, "credential_issuer", "credential_kind", "credential_id")
        event = {name: token.get(name) for name in names} | {
            "presented_scopes": token["scopes"],
            "presented_audience": token["audience"],
            **self.tool_fields(agent, tool),
        }
        return self._add("tool_call", after_s, self._envelope(GATEWAY_SOURCE) | event | more)

    def key_call(self, after_s: int, agent: str, key: str, tool: Tool, **more: Any) -> Event:
        """An agent calls a tool with a static key."""
        event = self._envelope(GATEWAY_SOURCE) | self.tool_fields(agent, tool)
        event |= {
            "credential_issuer": KEYS,
            "credential_kind": "api_key_id",
            "credential_id": key,
            "tool_protocol": "http",
        }
        return self._add("tool_call", after_s, event | more)

    def tool_fields(self, agent: str, tool: Tool) -> Event:
        """Return what a successful call says of the agent and the tool."""
        return {
            "observer": "gateway",
            "agent_id": agent,
            "agent_issuer": AUTHZ,
            "agent_instance": f"i-{self._id(agent, 8)}",
            "workload_id": workload(agent),
            "src_ip": "10.0.4.17",
            "call_id": f"call-{self._id('call')}",
            "tool_name": tool.name,
            "tool_protocol": "mcp_http",
            "tool_server": AUDIENCE[0],
            "operation": tool.action,
            "resource": tool.resource,
            "resource_sensitivity": tool.sensitivity,
            "action_class": tool.action,
            "required_scopes": [tool.scope],
            "outcome": "success",
            "decision_effect": "allow",
            "instruction_source": "agent",
        }

    def secret(self, after_s: int, key: str, agent: str, **more: Any) -> Event:
        """The scanner's inventory lists a static key."""
        return self._add(
            "secret_event",
            after_s,
            self._envelope(SCANNER_SOURCE)
            | {
                "observer": "scanner",
                "op": "inventory",
                "secret_id": key,
                "secret_kind": "api_key",
                "store": "vault",
                "bound_identity_id": agent,
                "bound_identity_issuer": AUTHZ,
                "snapshot_complete": True,
                **more,
            },
        )

    def delay(self, event: Event, arrives_after_s: int) -> None:
        """Let one event arrive later than it happened."""
        self.events = [
            (family, told, self._at(arrives_after_s) if told is event else arrival)
            for family, told, arrival in self.events
        ]

    def repeat(self, event: Event, arrives_after_s: int) -> None:
        """Let one event arrive a second time, byte for byte the same."""
        family = next(family for family, told, _ in self.events if told is event)
        self.events.append((family, event, self._at(arrives_after_s)))

    def _token(self, after_s: int, *, lives_s: int, **fields: Any) -> Event:
        issued = self._at(after_s)
        event: Event = self._envelope(AUTHZ_SOURCE) | {
            "observer": "authz_server",
            "outcome": "success",
            "credential_issuer": AUTHZ,
            "credential_kind": "jti",
            "credential_id": self._id("jti"),
            "token_type": "access_token",
            "scope_dialect": "exact",
            "requested_scopes": fields["scopes"],
            "audience": list(AUDIENCE),
            "act_chain": [],
            "issued_at": issued,
            "expires_at": issued + lives_s * SECOND,
            "auth_time": issued if fields["op"] == "issue" else None,
        }
        return self._add("token_event", after_s, event | fields)

    def _envelope(self, source: str) -> Event:
        return {
            "event_id": f"{self.name}-{len(self.events):02d}",
            "source": source,
            "tenant_id": TENANT,
            "trust_domain": TRUST_DOMAIN,
            "environment": "prod",
            "trace_id": sha256(self.name.encode()).hexdigest()[:32],
            "session_id": f"s-{self.name}",
        }

    def _add(self, family: str, after_s: int, event: Event) -> Event:
        event["event_time"] = self._at(after_s)
        self.events.append((family, event, self._at(after_s) + SECOND))
        return event

    def _at(self, after_s: int) -> int:
        return self.begins + after_s * SECOND

    def _id(self, what: str, digits: int = 32) -> str:
        return sha256(f"{self.name}/{what}/{len(self.events)}".encode()).hexdigest()[:digits]


def event_batch(family: str, events: Sequence[Event]) -> pa.RecordBatch:
    """Return events of one family in contract shape; what they leave out has its default."""
    default, schema = defaults(family), contract_schema(family)
    rows = []
    for event in events:
        given = {f.name: event.get(f.name) for f in schema}
        row = {n: default.get(n) if value is None else value for n, value in given.items()}
        rows.append(row | {"ext": list((event.get("ext") or {}).items())})
    return pa.RecordBatch.from_pylist(rows, schema=schema)
