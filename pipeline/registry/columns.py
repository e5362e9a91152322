"""The columns of every `reg_*` table, with fixed Arrow types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    # Filled below from reg_identities and reg_classes, with the time over which each row held.
    "reg_identities_as_of": _schema({}),
    "reg_classes_as_of": _schema({}),
    # One row per identity and role; the owner is null where nobody is named.
    "reg_owners": _schema(
        {
            "identity_id": _TEXT,
            "role": _TEXT,
            "owner": _TEXT,
            "backup_owner": _TEXT,
            "is_accountable": _FLAG,
        }
    ),
    # When which static secret was allowed; secret_id null is any, the times are never null.
    "reg_static_exceptions": _schema(
        {
            "identity_id": _TEXT,
            "secret_id": _TEXT,
            "reason": _TEXT,
            "approved_by": _TEXT,
            "since": _TIME,
            "until": _TIME,
        }
    ),
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
for _name in ("reg_identities", "reg_classes"):
    SCHEMAS[f"{_name}_as_of"] = _schema({f.name: f.type for f in SCHEMAS[_name]} | _PERIOD)

ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
"""From when and until when something holds that no date limits."""
