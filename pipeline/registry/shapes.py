"""What each file of the registry may hold, declared as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ACTION_CLASSES = (
    "read",
    "write",
    "delete",
    "execute",
    "admin_iam",
    "secret_read",
    "payment",
    "external_send",
)
CREDENTIAL_KINDS = (
    "jti",
    "uti",
    "access_key_id",
    "k8s_credential_id",
    "vault_accessor",
    "ath",
    "token_sha256",
    "par_hash",
    "x5t_s256",
    "api_key_id",
    "secret_version",
    "local",
)


@dataclass(frozen=True)
class Key:
    """One key of a mapping: what its value must look like.

    Kinds: text, texts, flag, count (integer from 0), time, word, words,
    predicate (mapping of text to text or texts), entries (list of mappings)
    and named (mapping of a name to a mapping); the last two have `entry`.
    """

    kind: str
    required: bool = False
    words: tuple[str, ...] = ()
    highest: int | None = None
    entry: Mapping[str, Key] | None = None
    refers_to: str | None = None


TEXT = Key("text")
TEXTS = Key("texts")
FLAG = Key("flag")
COUNT = Key("count")
TIME = Key("time")
NEEDED_TEXT = Key("text", required=True)
NEEDED_TIME = Key("time", required=True)

ENVIRONMENTS = ("prod", "stage", "dev", "test", "unknown")
RISK_TIER = Key("word", words=("normal", "high"))

LIMITS = {
    "expected_tools": TEXTS,
    "expected_audiences": TEXTS,
    "scope_ceiling": TEXTS,
    "allowed_parents": Key("texts", refers_to="agents"),
    "allowed_children": Key("texts", refers_to="agents"),
    "max_depth": COUNT,
    "max_fanout": COUNT,
    "max_ttl_s": COUNT,
    "approval_required_for": Key("words", words=ACTION_CLASSES),
    "human_root_required": FLAG,
    "jit_required": FLAG,
    "static_secret_allowed": FLAG,
    "pop_required": FLAG,
    "source_identity_required": FLAG,
    "delegation_record_required": FLAG,
    "background_sync": FLAG,
    "max_renewal_s": COUNT,
    "ambient_tools": TEXTS,
    "approved_combinations": TEXTS,
}

# What is decided about an agent: its earlier states may differ in these.
_DECIDED = {
    "kind": Key(
        "word", words=("human", "agent", "agent_user", "workload", "service_account", "client")
    ),
    "display_name": TEXT,
    "class": Key("text", refers_to="classes"),
    "owner_iam": TEXT,
    "owner_platform": TEXT,
    "owner_application": TEXT,
    "business_units": TEXTS,
    "is_broker": FLAG,
    "vendor_hosted": FLAG,
    "trust_domain": TEXT,
    "environment": Key("word", words=ENVIRONMENTS),
    "status": Key("word", words=("proposed", "active", "suspended", "decommissioned")),
    "status_since": TIME,
    "pass_through": FLAG,
    "delegate_for": Key("texts", refers_to="agents"),
    "static_secret_exception_until": TIME,
    "static_secret_exceptions": Key(
        "entries",
        entry={
            "secret_id": TEXT,
            "reason": NEEDED_TEXT,
            "approved_by": NEEDED_TEXT,
            "since": TIME,
            "until": NEEDED_TIME,
        },
    ),
    "backup_owner": TEXT,
    "risk_tier": RISK_TIER,
    "registered_at": TIME,
    "last_reviewed_at": TIME,
    "review_due_at": TIME,
    "valid_until": TIME,
    "seasonal": FLAG,
    "vendor": TEXT,
    "vendor_review_id": TEXT,
    "vendor_exception_until": TIME,
    "vendor_accounts": TEXTS,
    "shared_units": TEXTS,
    "environments": Key("words", words=ENVIRONMENTS),
    "approved_secrets": TEXTS,
    "reentry_allowed_with": Key("texts", refers_to="agents"),
    "impersonation_allowed_until": TIME,
    **LIMITS,
}

AGENT = _DECIDED | {
    "aliases": Key("entries", entry={"issuer": TEXT, "subject": NEEDED_TEXT}),
    "credential_ids": Key(
        "entries",
        entry={
            "issuer": TEXT,
            "kind": Key("word", required=True, words=CREDENTIAL_KINDS),
            "id": NEEDED_TEXT,
        },
    ),
    "break_glass": Key(
        "entries", entry={"ticket": NEEDED_TEXT, "since": NEEDED_TIME, "until": NEEDED_TIME}
    ),
    "history": Key("entries", entry={"until": NEEDED_TIME} | _DECIDED),
}

ISSUER = {
    "trust_domain": TEXT,
    "has_hierarchy": FLAG,
    "bare_wildcard": FLAG,
    "foreign_without_logs": FLAG,
    "max_ttl_s": COUNT,
    "single_use": FLAG,
    "revocation_cascades": FLAG,
}

DELEGATION_RECORD = {
    "principal": NEEDED_TEXT,
    "delegate": Key("text", required=True, refers_to="agents"),
    "business_unit": TEXT,
    "scopes": TEXTS,
    "audience": TEXTS,
    "not_before": TIME,
    "not_after": TIME,
    "purpose": TEXT,
    "status": Key("word", words=("active", "revoked", "expired")),
}

FILES: Mapping[str, Mapping[str, Key]] = {
    "agents.yaml": {
        "agents": Key("named", entry=AGENT),
        "ignored_clients": Key(
            "entries", entry={"issuer": TEXT, "subject": NEEDED_TEXT, "reason": NEEDED_TEXT}
        ),
    },
    "classes.yaml": {
        "classes": Key(
            "named",
            entry={
                "version": TEXT,
                "description": TEXT,
                "risk_tier": RISK_TIER,
                "signoff_roles": TEXTS,
                **LIMITS,
            },
        )
    },
    "people.yaml": {
        "people": Key(
            "named",
            entry={
                "display_name": TEXT,
                "status": Key("word", required=True, words=("active", "on_leave", "left")),
                "left_at": TIME,
            },
        ),
        "groups": Key("named", entry={"members": Key("texts", required=True)}),
    },
    "signoffs.yaml": {
        "signoffs": Key(
            "entries",
            entry={
                "class": Key("text", required=True, refers_to="classes"),
                "version": TEXT,
                "scope_hash": TEXT,
                "approver": Key("text", required=True, refers_to="people"),
                "role": TEXT,
                "signed_at": NEEDED_TIME,
                "expires_at": NEEDED_TIME,
            },
        )
    },
    "trust.yaml": {
        "issuers": Key("named", entry=ISSUER),
        "trust_edges": Key(
            "entries",
            entry={
                "from_domain": NEEDED_TEXT,
                "to_domain": NEEDED_TEXT,
                "issuer": TEXT,
                "allowed_scopes": TEXTS,
                "valid_from": TIME,
                "expires_at": TIME,
            },
        ),
        "role_edges": Key(
            "entries",
            entry={
                "source": NEEDED_TEXT,
                "target": NEEDED_TEXT,
                "account": TEXT,
                "expires_at": TIME,
            },
        ),
        "resource_servers": Key("named", entry={"aliases": Key("texts", required=True)}),
        "egress": Key(
            "entries", entry={"identity": Key("text", refers_to="agents"), "ip_prefix": NEEDED_TEXT}
        ),
        "delegation_records": Key("named", entry=DELEGATION_RECORD),
        "identity_maps": Key(
            "entries",
            entry={
                "from_issuer": TEXT,
                "from_subject": NEEDED_TEXT,
                "to_issuer": TEXT,
                "to_subject": NEEDED_TEXT,
                "basis": TEXT,
            },
        ),
    },
    "scopes.yaml": {
        "implications": Key(
            "entries",
            entry={
                "issuer": TEXT,
                "audience": TEXT,
                "scope": NEEDED_TEXT,
                "implies": Key("texts", required=True),
            },
        ),
        "tiers": Key(
            "entries",
            entry={
                "issuer": TEXT,
                "audience": TEXT,
                "scope": NEEDED_TEXT,
                "tier": Key("count", required=True, highest=4),
                "action_class": Key("word", words=ACTION_CLASSES),
            },
        ),
        "maps": Key(
            "entries",
            entry={
                "from_issuer": TEXT,
                "from_audience": TEXT,
                "from_scope": NEEDED_TEXT,
                "to_issuer": TEXT,
                "to_audience": TEXT,
                "to_scope": NEEDED_TEXT,
            },
        ),
    },
    "sources.yaml": {
        "sources": Key(
            "named",
            entry={
                "tenant_id": TEXT,
                "expected_interval_s": COUNT,
                "grace_s": COUNT,
                "retention_s": COUNT,
                "paired_with": TEXT,
                "owner": TEXT,
            },
        )
    },
    "suppressions.yaml": {
        "suppressions": Key(
            "named",
            entry={
                "rule": NEEDED_TEXT,
                "predicate": Key("predicate", required=True),
                "reason": NEEDED_TEXT,
                "owner": NEEDED_TEXT,
                "created_at": NEEDED_TIME,
                "expires_at": NEEDED_TIME,
            },
        )
    },
}
