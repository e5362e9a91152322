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

DOCS: Mapping[str, str] = {
    "kind": "What it is; agent unless said otherwise.",
    "class": "Class of classes.yaml whose limits it inherits.",
    "aliases": "Other names it bears in events; without an issuer the name holds for any.",
    "credential_ids": "Credentials that are its own, for events that name no subject.",
    "owner_iam": "Who answers for its identity and grants: a person or a group.",
    "owner_platform": "Who answers for the platform it runs on: a person or a group.",
    "owner_application": "Who answers for what it does: a person or a group. Findings go here.",
    "backup_owner": "Who is told while an owner is away.",
    "business_units": "Units it works for.",
    "shared_units": "Units that a shared service may serve without a delegation record.",
    "is_broker": "Acts for several business units, each under a delegation record.",
    "vendor_hosted": "Runs at a vendor: its credentials lie outside.",
    "vendor_review_id": "The third-party review that allowed it.",
    "vendor_accounts": "Accounts of the vendor that may act as it.",
    "vendor_exception_until": "Until when it may do without a review.",
    "environments": "Further environments it may act in.",
    "status_since": "Since when the status holds.",
    "pass_through": "A gateway or sidecar: carries calls, is no actor of its own.",
    "delegate_for": "Agents whose credentials it may present.",
    "static_secret_exception_until": "Until when it may use any static secret; better by secret.",
    "static_secret_exceptions": "Static secrets it may use for a time, each with reason and end.",
    "secret_id": "The secret or credential id; without one, any.",
    "approved_secrets": "Secrets of the stores that it may read.",
    "break_glass": "Emergencies in which it may go beyond its limits.",
    "history": "Its states before the present one; keys not named were as they are now.",
    "until": "When it ended or ends; not included.",
    "since": "When it began; without it, when the registry first said so.",
    "registered_at": "When it was registered.",
    "review_due_at": "When its next review is due.",
    "valid_until": "When its registration ends.",
    "seasonal": "Sleeps for long and wakes by plan.",
    "reentry_allowed_with": "Agents that may appear beside it in a chain more than once.",
    "impersonation_allowed_until": "Until when it may act as a subject without being named.",
    "expected_tools": "Tools it is meant to use; an empty list is none at all.",
    "expected_audiences": "Audiences it is meant to reach.",
    "scope_ceiling": "Every scope it may ever hold; x.* covers all below x.",
    "allowed_parents": "Agents that may delegate to it.",
    "allowed_children": "Agents that it may delegate to.",
    "max_depth": "Longest chain it may stand in: changes of actor from the root.",
    "max_fanout": "Most children within the window of the rule.",
    "max_ttl_s": "Longest lifetime of a credential of its, in seconds.",
    "max_renewal_s": "Longest time over which a credential may be renewed, in seconds.",
    "approval_required_for": "Kinds of action that need an approval bound to their arguments.",
    "human_root_required": "Its chains must begin at a person.",
    "jit_required": "It must be given credentials just in time.",
    "static_secret_allowed": "Whether its chains may begin at a static secret.",
    "pop_required": "Its credentials must be bound to a key.",
    "source_identity_required": "Cloud roles it assumes must carry who is behind.",
    "delegation_record_required": "It may act only under a delegation record.",
    "background_sync": "Works without its user present.",
    "ambient_tools": "Tools that need no credential.",
    "approved_combinations": "Combinations of capabilities that its class was approved for.",
    "signoff_roles": "Roles that must sign each version of the class.",
    "risk_tier": "high halves how long a sign-off and a review last.",
    "version": "A new version needs new sign-offs.",
    "scope_hash": "What was signed; `delegraph registry show CLASS` prints it.",
    "approver": "A person of people.yaml.",
    "members": "People of the group; it answers while one of them is active.",
    "left_at": "When they left.",
    "foreign_without_logs": "An issuer whose events never reach us.",
    "has_hierarchy": "Its scopes imply one another in ways not yet listed: unequal is unknown.",
    "bare_wildcard": "Its scope * means everything.",
    "single_use": "Its credentials may be used once.",
    "revocation_cascades": "Revoking one of its credentials ends those made from it.",
    "allowed_scopes": "Scopes that may cross.",
    "business_unit": "The unit on whose behalf.",
    "delegate": "The agent that acts.",
    "principal": "For whom it acts.",
    "implies": "Scopes that come with it.",
    "tier": "0 public, 1 internal, 2 confidential, 3 sensitive, 4 critical.",
    "action_class": "What kind of action the scope allows.",
    "expected_interval_s": "Longest ordinary silence of the source, in seconds.",
    "grace_s": "How late its events may be, in seconds.",
    "retention_s": "How long the source keeps its events, in seconds.",
    "paired_with": "The source that tells of the same calls from the other side.",
    "predicate": "Columns of a finding with the value, or the values, that fit.",
    "rule": "Rule id or code.",
    "expires_at": "When it ends; a suppression lasts at most 180 days.",
}
"""What keys mean, for editors; the rest say it themselves."""
