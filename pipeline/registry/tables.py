"""The `reg_*` tables: what rules and the chain build join, with fixed Arrow types.

Limits of the class are filled in here, so no query has to know about classes.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
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
            "expected_audiences": _TEXTS,
            "pop_required": _FLAG,
            "source_identity_required": _FLAG,
            "delegation_record_required": _FLAG,
            "background_sync": _FLAG,
            "max_renewal_s": _LONG,
            "ambient_tools": _TEXTS,
            "approved_combinations": _TEXTS,
            "backup_owner": _TEXT,
            "risk_tier": _TEXT,
            "registered_at": _TIME,
            "last_reviewed_at": _TIME,
            "review_due_at": _TIME,
            "valid_until": _TIME,
            "seasonal": _FLAG,
            "vendor": _TEXT,
            "vendor_review_id": _TEXT,
            "vendor_exception_until": _TIME,
            "vendor_accounts": _TEXTS,
            "shared_units": _TEXTS,
            "environments": _TEXTS,
            "approved_secrets": _TEXTS,
            "reentry_allowed_with": _TEXTS,
            "impersonation_allowed_until": _TIME,
        }
    ),
    # Filled from reg_identities, with the time over which each row held.
    "reg_identities_as_of": _schema({}),
    # Every name of an identity in one place: its id (any issuer) and its aliases, each once.
    "reg_names": _schema({"identity_id": _TEXT, "issuer": _TEXT, "name": _TEXT}),
    "reg_ignored_clients": _schema({"issuer": _TEXT, "subject": _TEXT, "reason": _TEXT}),
    "reg_break_glass": _schema(
        {"identity_id": _TEXT, "ticket": _TEXT, "since": _TIME, "until": _TIME}
    ),
    "reg_classes": _schema(
        {
            "class": _TEXT,
            "version": _TEXT,
            "risk_tier": _TEXT,
            "signoff_roles": _TEXTS,
            "scope_hash": _TEXT,
        }
    ),
    "reg_group_members": _schema({"group_name": _TEXT, "member": _TEXT}),
    "reg_role_edges": _schema(
        {"source": _TEXT, "target": _TEXT, "account": _TEXT, "expires_at": _TIME}
    ),
    "reg_resource_aliases": _schema({"server": _TEXT, "alias": _TEXT}),
    "reg_egress": _schema({"identity_id": _TEXT, "ip_prefix": _TEXT}),
    "reg_sources": _schema(
        {
            "source": _TEXT,
            "tenant_id": _TEXT,
            "expected_interval_s": _LONG,
            "grace_s": _LONG,
            "retention_s": _LONG,
            "paired_with": _TEXT,
            "owner": _TEXT,
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
            "valid_from": _TIME,
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
            "revocation_cascades": _FLAG,
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

_PERIOD = {"valid_from": _TIME, "valid_to": _TIME}
SCHEMAS["reg_identities_as_of"] = _schema(
    {f.name: f.type for f in SCHEMAS["reg_identities"]} | _PERIOD
)
ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))

_AGENT_DEFAULTS = {
    "kind": "agent",
    "business_units": [],
    "is_broker": False,
    "vendor_hosted": False,
    "status": "active",
    "pass_through": False,
    "delegate_for": [],
    "risk_tier": "normal",
    "seasonal": False,
    "vendor_accounts": [],
    "shared_units": [],
    "environments": [],
    "approved_secrets": [],
    "reentry_allowed_with": [],
}
_ISSUER_DEFAULTS = {
    "has_hierarchy": False,
    "bare_wildcard": False,
    "foreign_without_logs": False,
    "single_use": False,
    "revocation_cascades": True,
}


def build_tables(sections: Sections) -> dict[str, pa.Table]:
    """Return every `reg_*` table; a section that is not there gives an empty one."""
    agents = sections.get("agents", [])
    rows: dict[str, Iterable[Row]] = {
        "reg_identities": _identities(sections),
        "reg_identities_as_of": [
            row | {"valid_from": ALWAYS[0], "valid_to": ALWAYS[1]} for row in _identities(sections)
        ],
        "reg_aliases": _owned(agents, "aliases"),
        "reg_credential_ids": _owned(agents, "credential_ids"),
        "reg_names": _names(agents),
        "reg_ignored_clients": _plain(sections, "ignored_clients"),
        "reg_break_glass": _owned(agents, "break_glass"),
        "reg_classes": _classes(sections),
        "reg_group_members": [
            {"group_name": entry.name, "member": member}
            for entry in sections.get("groups", [])
            for member in entry.values["members"]
        ],
        "reg_role_edges": _plain(sections, "role_edges"),
        "reg_resource_aliases": [
            {"server": entry.name, "alias": alias}
            for entry in sections.get("resource_servers", [])
            for alias in entry.values["aliases"]
        ],
        "reg_egress": [
            {"identity_id": row.get("identity"), "ip_prefix": row["ip_prefix"]}
            for row in _plain(sections, "egress")
        ],
        "reg_sources": _named(sections, "sources", "source"),
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


def _names(agents: list[Entry]) -> list[Row]:
    names = {(agent.name, None, agent.name) for agent in agents}
    names |= {(a["identity_id"], a.get("issuer"), a["subject"]) for a in _owned(agents, "aliases")}
    return [
        {"identity_id": identity, "issuer": issuer, "name": name}
        for identity, issuer, name in sorted(names, key=lambda n: (n[0], n[1] or "", n[2]))
    ]


def _classes(sections: Sections) -> list[Row]:
    return [
        {"risk_tier": "normal", "signoff_roles": []}
        | {key: entry.values[key] for key in ("version", "risk_tier") if key in entry.values}
        | {"signoff_roles": entry.values.get("signoff_roles", [])}
        | {"class": entry.name, "scope_hash": scope_hash(entry.values)}
        for entry in sections.get("classes", [])
    ]


def scope_hash(values: Mapping[str, Any]) -> str:
    """Return what a sign-off names: 16 hex digits over everything a class may do.

    Hashes the limits in a fixed order with sorted lists, so that a reordered file
    needs no new sign-off and any wider or narrower limit does.
    """
    limits = {
        key: sorted(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key in LIMITS
    }
    text = json.dumps(limits, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
