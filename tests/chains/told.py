# ruff: noqa: E501 - one event a line reads best
"""Stories for the chain tests: short ways to write events, one lake for all of them.

Each story is a tenant of its own, so that one build serves a whole module and
every expectation also says that tenants do not meet.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.chains import build_chains
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import token_event, tool_call, write_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

IDP = "https://idp.test"
STS = "https://sts.test"
AWS = "aws"
START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
# A day behind the events: every stream is quiet, so nothing is pending.
LATER = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
Event = dict[str, Any]

POLICY = """
agents:
  svc-batch: {kind: agent}
  legacy-app: {kind: agent, credential_ids: [{kind: api_key_id, id: legacy-key}]}
  deployer: {kind: agent, credential_ids: [{kind: access_key_id, id: AKIADEPLOYER}]}
  copilot: {kind: agent}
  coder:
    kind: agent
    aliases: [{subject: coder-client}]
  broker: {kind: agent, pass_through: true}
"""
TRUST = """
issuers:
  https://partner.test: {foreign_without_logs: true}
  https://tree.test: {has_hierarchy: true}
  https://star.test: {bare_wildcard: true}
  https://cascading.test: {revocation_cascades: true}
resource_servers:
  https://ledger.test: {aliases: ["https://books.test/"]}
trust_edges:
  - {from_domain: home, to_domain: other, issuer: "https://edge.test"}
identity_maps:
  - {from_issuer: "https://idp.test", from_subject: alice, to_issuer: "https://sts.test", to_subject: a.smith, basis: contract}
"""
SCOPES = """
implications:
  - {issuer: "https://idp.test", scope: repo, implies: [public_repo]}
  - {scope: admin, implies: [repo]}
  - {issuer: "https://idp.test", audience: "api://mail", scope: mail.all, implies: [mail.send]}
tiers:
  - {issuer: "https://idp.test", scope: big, tier: 4, action_class: admin_iam}
  - {issuer: "https://idp.test", scope: small, tier: 1, action_class: read}
maps:
  - {from_issuer: "https://idp.test", from_audience: "api://a", from_scope: a.read, to_issuer: "https://idp.test", to_audience: "api://b", to_scope: b.read}
  - {from_issuer: "https://idp.test", from_audience: "api://a", from_scope: a.admin, to_issuer: "https://idp.test", to_audience: "api://b", to_scope: b.admin}
"""


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def ref(
    credential: str, role: str = "subject", issuer: str | None = IDP, kind: str = "jti"
) -> Event:
    return {"role": role, "issuer": issuer, "kind": kind, "id": credential}


def act(*names: str, issuer: str | None = IDP) -> list[Event]:
    """Return an actor chain, outermost (current) actor first."""
    return [{"issuer": issuer, "subject": name} for name in names]


def token(credential: str, minute: float, *, op: str = "issue", **over: Any) -> Event:
    return token_event(**{"event_time": at(minute), "credential_id": credential, "op": op} | over)


def login(credential: str, minute: float = 0, **over: Any) -> Event:
    """Return what alice gets from the authorization server after signing in at `web`."""
    usual = {"grant_type": "authorization_code", "auth_time": at(minute), "client_id": "web"}
    return token(credential, minute, **usual | over)


def exchange(
    credential: str, parent: str | None, minute: float, *actors: str, **over: Any
) -> Event:
    """Return an exchange: `actors` outermost first, the first of them acts."""
    usual = {
        "parents": [ref(parent)] if parent else [],
        "act_chain": act(*actors),
        "actor_id": actors[0] if actors else None,
        "client_id": actors[0] if actors else None,
    }
    return token(credential, minute, op="exchange", **usual | over)


def refresh(credential: str, shown: str, minute: float, **over: Any) -> Event:
    """Return what `web` gets for the refresh token that it shows."""
    usual = {"parents": [ref(shown, "refresh")], "client_id": "web", "grant_type": "refresh_token"}
    return token(credential, minute, op="refresh", **usual | over)


def write_policy(folder: Path) -> Path:
    """Write the stories' registry into a new folder and return that."""
    policy = folder / "policy"
    policy.mkdir()
    for name, content in (("agents", POLICY), ("trust", TRUST), ("scopes", SCOPES)):
        (policy / f"{name}.yaml").write_text(content, encoding="utf-8")
    return policy


def aws_key(key: str, parent: str | None, minute: float, **over: Any) -> Event:
    usual = {
        "source": "cloudtrail",
        "observer": "cloud_audit",
        "credential_issuer": AWS,
        "credential_kind": "access_key_id",
        "parents": [ref(parent, "source", AWS, "access_key_id")] if parent else [],
        "scope_known": False,
        "subject_kind": None,
    }
    return token(key, minute, op="assume", **usual | over)


def call(name: str, credential: str | None, minute: float, **over: Any) -> Event:
    shown = {"credential_issuer": IDP, "credential_kind": "jti", "credential_id": credential}
    usual = {"event_id": name, "event_time": at(minute), **(shown if credential else {})}
    return tool_call(**usual | over)


class Shown:
    """What the views of a built lake show, one story (tenant) at a time."""

    def __init__(self, folder: Path, stories: Mapping[str, Sequence[Event]]) -> None:
        policy = write_policy(folder)
        lake = open_lake(str(folder / "lake"), create=True)
        write_events(
            lake, [e | {"tenant_id": name} for name, told in stories.items() for e in told]
        )
        build_chains(lake, load_registry(policy), LATER)
        self.con = lake.connect()

    def rows(self, table: str, story: str) -> list[Event]:
        query = f"SELECT * FROM {table} WHERE tenant_id = $story ORDER BY ALL"
        return self.con.sql(query, params={"story": story}).to_arrow_table().to_pylist()

    def credential(self, story: str, name: str) -> Event:
        """Return the one credential that bears this id, with its chain's columns."""
        query = (
            "SELECT c.*, chains.* EXCLUDE (tenant_id, credential_key, root_key)"
            " FROM credentials AS c LEFT JOIN chains USING (credential_key)"
            " WHERE c.tenant_id = $story AND c.id = $name"
        )
        (found,) = (
            self.con.sql(query, params={"story": story, "name": name}).to_arrow_table().to_pylist()
        )
        return found

    def hop(self, story: str, name: str) -> Event | None:
        key = self.credential(story, name)["credential_key"]
        return next((h for h in self.rows("hops", story) if h["child_key"] == key), None)

    def links(self, story: str) -> set[tuple[str, str]]:
        """Return every canonical link as (parent id, child id)."""
        names = {c["credential_key"]: c["id"] for c in self.rows("credentials", story)}
        return {(names[h["parent_key"]], names[h["child_key"]]) for h in self.rows("hops", story)}

    def candidates(self, story: str) -> set[tuple[str, str, str]]:
        """Return every refused link as (parent id, child id, reason)."""
        names = {c["credential_key"]: c["id"] for c in self.rows("credentials", story)}
        return {
            (names[h["parent_key"]], names[h["child_key"]], h["reason"])
            for h in self.rows("hop_candidates", story)
        }

    def call(self, story: str, event_id: str) -> Event:
        (found,) = [c for c in self.rows("calls", story) if c["event_id"] == event_id]
        return found

    def facts(self, story: str, name: str, *columns: str) -> tuple[Any, ...]:
        found = self.credential(story, name)
        return tuple(found[column] for column in columns)
