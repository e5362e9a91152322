"""The `reg_*` tables: what rules and the chain build join, with fixed Arrow types.

Limits of the class are filled in here, so no query has to know about classes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.registry.read import Entry
from pipeline.registry.shapes import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Sections = dict[str, list[Entry]]
Row = dict[str, Any]

_TEXT, _TEXTS, _FLAG = pa.string(), pa.list_(pa.string()), pa.bool_()
_INTEGER, _LONG, _TIME = pa.int32(), pa.int64(), pa.timestamp("us", tz="UTC")


def _schema(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    return pa.schema(list(columns.items()))


SCHEMAS: dict[str, pa.Schema] = {
    "reg_identities": _schema(
        {
            "identity_id": _TEXT,
            "kind": _TEXT,
            "display_name": _TEXT,
            "class": _TEXT,
            "owner_iam": _TEXT,
            "owner_platform": _TEXT,
            "owner_application": _TEXT,
            "business_units": _TEXTS,
            "is_broker": _FLAG,
            "vendor_hosted": _FLAG,
            "trust_domain": _TEXT,
            "environment": _TEXT,
            "status": _TEXT,
            "status_since": _TIME,
            "pass_through": _FLAG,
            "expected_tools": _TEXTS,
            "scope_ceiling": _TEXTS,
            "allowed_parents": _TEXTS,
            "allowed_children": _TEXTS,
            "max_depth": _INTEGER,
            "max_fanout": _INTEGER,
            "max_ttl_s": _LONG,
            "approval_required_for": _TEXTS,
            "human_root_required": _FLAG,
            "jit_required": _FLAG,
            "static_secret_exception_until": _TIME,
            "static_secret_allowed": _FLAG,
            "delegate_for": _TEXTS,
        }
    ),
    "reg_aliases": _schema({"identity_id": _TEXT, "issuer": _TEXT, "subject": _TEXT}),
    "reg_credential_ids": _schema(
        {"identity_id": _TEXT, "issuer": _TEXT, "kind": _TEXT, "id": _TEXT}
    ),
    "reg_people": _schema({"principal": _TEXT, "status": _TEXT, "left_at": _TIME}),
    "reg_signoffs": _schema(
        {
            "class": _TEXT,
            "version": _TEXT,
            "scope_hash": _TEXT,
            "approver": _TEXT,
            "role": _TEXT,
            "signed_at": _TIME,
            "expires_at": _TIME,
        }
    ),
    "reg_trust_edges": _schema(
        {
            "from_domain": _TEXT,
            "to_domain": _TEXT,
            "issuer": _TEXT,
            "allowed_scopes": _TEXTS,
            "expires_at": _TIME,
        }
    ),
    "reg_delegation_records": _schema(
        {
            "id": _TEXT,
            "principal": _TEXT,
            "delegate": _TEXT,
            "business_unit": _TEXT,
            "scopes": _TEXTS,
            "audience": _TEXTS,
            "not_before": _TIME,
            "not_after": _TIME,
            "purpose": _TEXT,
            "status": _TEXT,
        }
    ),
    "reg_scope_implications": _schema(
        {"issuer": _TEXT, "audience": _TEXT, "scope": _TEXT, "implies": _TEXT}
    ),
    "reg_scope_tiers": _schema(
        {
            "issuer": _TEXT,
            "audience": _TEXT,
            "scope": _TEXT,
            "tier": _INTEGER,
            "action_class": _TEXT,
        }
    ),
    "reg_scope_maps": _schema(
        {
            "from_issuer": _TEXT,
            "from_audience": _TEXT,
            "from_scope": _TEXT,
            "to_issuer": _TEXT,
            "to_audience": _TEXT,
            "to_scope": _TEXT,
        }
    ),
    "reg_issuers": _schema(
        {
            "issuer": _TEXT,
            "has_hierarchy": _FLAG,
            "bare_wildcard": _FLAG,
            "foreign_without_logs": _FLAG,
            "trust_domain": _TEXT,
            "max_ttl_s": _LONG,
            "single_use": _FLAG,
        }
    ),
    "reg_identity_maps": _schema(
        {
            "from_issuer": _TEXT,
            "from_subject": _TEXT,
            "to_issuer": _TEXT,
            "to_subject": _TEXT,
            "basis": _TEXT,
        }
    ),
    "reg_suppressions": _schema(
        {
            "id": _TEXT,
            "rule": _TEXT,
            "predicate": _TEXT,
            "reason": _TEXT,
            "owner": _TEXT,
            "created_at": _TIME,
            "expires_at": _TIME,
        }
    ),
}

_AGENT_DEFAULTS = {
    "kind": "agent",
    "business_units": [],
    "is_broker": False,
    "vendor_hosted": False,
    "status": "active",
    "pass_through": False,
    "delegate_for": [],
}
_ISSUER_DEFAULTS = {
    "has_hierarchy": False,
    "bare_wildcard": False,
    "foreign_without_logs": False,
    "single_use": False,
}


def build_tables(sections: Sections) -> dict[str, pa.Table]:
    """Return every `reg_*` table; a section that is not there gives an empty one."""
    agents = sections.get("agents", [])
    rows: dict[str, Iterable[Row]] = {
        "reg_identities": _identities(sections),
        "reg_aliases": _owned(agents, "aliases"),
        "reg_credential_ids": _owned(agents, "credential_ids"),
        "reg_people": _named(sections, "people", "principal"),
        "reg_signoffs": _plain(sections, "signoffs"),
        "reg_trust_edges": _plain(sections, "trust_edges"),
        "reg_delegation_records": [
            {"status": "active"} | row for row in _named(sections, "delegation_records", "id")
        ],
        "reg_scope_implications": [
            row | {"implies": implied}
            for row in _plain(sections, "implications")
            for implied in row["implies"]
        ],
        "reg_scope_tiers": _plain(sections, "tiers"),
        "reg_scope_maps": _plain(sections, "maps"),
        "reg_issuers": [_ISSUER_DEFAULTS | row for row in _named(sections, "issuers", "issuer")],
        "reg_identity_maps": _plain(sections, "identity_maps"),
        "reg_suppressions": [
            row | {"predicate": json.dumps(row["predicate"], sort_keys=True)}
            for row in _named(sections, "suppressions", "id")
        ],
    }
    return {
        name: pa.Table.from_pylist(list(rows[name]), schema=schema)
        for name, schema in SCHEMAS.items()
    }


def _identities(sections: Sections) -> list[Row]:
    classes = {entry.name: entry.values for entry in sections.get("classes", [])}
    found = []
    for agent in sections.get("agents", []):
        inherited = classes.get(agent.values.get("class", ""), {})
        limits = {key: inherited[key] for key in LIMITS if key in inherited}
        found.append(_AGENT_DEFAULTS | limits | agent.values | {"identity_id": agent.name})
    return found


def _owned(agents: list[Entry], key: str) -> list[Row]:
    return [
        entry.values | {"identity_id": agent.name}
        for agent in agents
        for entry in agent.values.get(key, [])
    ]


def _plain(sections: Sections, section: str) -> list[Row]:
    return [entry.values for entry in sections.get(section, [])]


def _named(sections: Sections, section: str, name: str) -> list[Row]:
    return [entry.values | {name: entry.name} for entry in sections.get(section, [])]
