"""One chain as a record that every picture and text is drawn from.

Takes a connection with the lake's views and what a person has in hand (a
credential's key or id, a call, a finding); gives a frozen `Path`, or None.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.chains.steps import sql

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import duckdb


@dataclass(frozen=True)
class Step:
    """One credential of a chain and the hop that made it; the root has no hop."""

    credential_key: str
    kind: str
    id: str
    issuer: str | None
    acting: str | None
    delegator: str | None
    hop_kind: str | None
    method: str | None
    confidence: float | None
    attenuation: str | None
    scopes: tuple[str, ...]
    scope_known: bool
    widened_scopes: tuple[str, ...]
    parent_scopes: tuple[str, ...]
    issued_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    is_static: bool
    seen_issued: bool
    event_uids: tuple[str, ...]


@dataclass(frozen=True)
class CallLine:
    """Calls of one tool on one target with the last credential of a chain."""

    tool_name: str
    target: str | None
    agent_id: str
    calls: int
    succeeded: int
    denied: int
    missing_scopes: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime
    link_method: str | None
    link_confidence: float
    event_uid: str


@dataclass(frozen=True)
class Finding:
    """What of a finding stands above its chain."""

    finding_id: str
    rule_code: str
    severity: int
    title: str
    entity: str | None


@dataclass(frozen=True)
class Path:
    """A chain from its root to what was done at its end."""

    path_id: str
    tenant_id: str
    credential_key: str
    root_principal: str | None
    root_kind: str
    end_kind: str
    status: str
    confidence: float
    depth: int
    gap_kind: str | None
    unknown_count: int
    actor_path: tuple[str, ...]
    effective_scopes: tuple[str, ...]
    effective_scope_known: bool
    steps: tuple[Step, ...]
    calls: tuple[CallLine, ...]
    finding: Finding | None

    @property
    def call_count(self) -> int:
        """Number of calls made with the last credential."""
        return sum(line.calls for line in self.calls)

    @property
    def event_count(self) -> int:
        """Number of events behind the path."""
        return self.call_count + len({uid for step in self.steps for uid in step.event_uids})


_HEAD = (
    "root_principal",
    "root_kind",
    "end_kind",
    "status",
    "confidence",
    "depth",
    "gap_kind",
    "unknown_count",
    "actor_path",
    "effective_scopes",
    "effective_scope_known",
)


def _records(
    con: duckdb.DuckDBPyConnection, text: str, values: dict[str, Any]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = con.sql(text, params=values).to_arrow_table().to_pylist()
    return rows


def _fields(row: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the named columns, lists as tuples."""
    return {n: tuple(row[n]) if isinstance(row[n], list) else row[n] for n in names}


def _step(row: dict[str, Any]) -> Step:
    lists = {name: row[name] or [] for name in ("scopes", "widened_scopes", "parent_scopes")}
    return Step(**_fields(row | lists, Step.__dataclass_fields__))


def load_chain(con: duckdb.DuckDBPyConnection, key: str) -> Path | None:
    """Return the chain behind a credential, call or finding; None where there is none."""
    resolved = _records(con, sql("show_resolve"), {"id": key})
    found = next((row for row in resolved if row["credential_key"]), None)
    if found is None:
        return None
    credential = found["credential_key"]
    heads = _records(con, "SELECT * FROM chains WHERE credential_key = $key", {"key": credential})
    if not heads:
        return None
    head = heads[0]
    steps = tuple(_step(row) for row in _records(con, sql("show_steps"), {"key": credential}))
    event_uid = found["event_uid"] if found["finding_id"] is None else None
    lines = _records(con, sql("show_calls"), {"key": credential, "event_uid": event_uid})
    calls = tuple(
        CallLine(**row | {"missing_scopes": tuple(row["missing_scopes"])}) for row in lines
    )
    digest = hashlib.sha256("\x1f".join(head["credential_path"]).encode()).hexdigest()
    return Path(
        path_id=f"p_{digest[:12]}",
        tenant_id=head["tenant_id"],
        credential_key=credential,
        steps=steps,
        calls=calls,
        finding=_finding(con, found["finding_id"]),
        **_fields(head, _HEAD),
    )


def _finding(con: duckdb.DuckDBPyConnection, finding_id: str | None) -> Finding | None:
    if finding_id is None:
        return None
    rows = _records(
        con,
        "SELECT finding_id, rule_code, severity, title, entity FROM findings"
        " WHERE finding_id = $id",
        {"id": finding_id},
    )
    return Finding(**rows[0]) if rows else None
