"""The policy registry: who an agent is, who owns it and what it may do, as reviewed YAML.

One folder, every file optional, one mapping at the top of each file.
Keys that hold many entries by name are mappings, so a name given twice is a
duplicate key; the others are lists.

    agents.yaml        agents: {ID: {kind, display_name, class, aliases: [{issuer, subject}],
                       credential_ids: [{issuer, kind, id}], owner_iam, owner_platform,
                       owner_application, business_units, is_broker, vendor_hosted, trust_domain,
                       environment, status, status_since, pass_through, delegate_for,
                       static_secret_exception_until, static_secret_exceptions: [{secret_id,
                       reason, approved_by, since, until}], backup_owner, risk_tier, registered_at,
                       last_reviewed_at, review_due_at, valid_until, seasonal, vendor,
                       vendor_review_id, vendor_exception_until, vendor_accounts, shared_units,
                       environments, approved_secrets, reentry_allowed_with,
                       impersonation_allowed_until, break_glass: [{ticket, since, until}],
                       history: [{until, any key but aliases, credential_ids, break_glass}],
                       and any limit}}
                       ignored_clients: [{issuer, subject, reason}]
    classes.yaml       classes: {NAME: {version, description, risk_tier, signoff_roles, and any
                       limit}}
    people.yaml        people: {PRINCIPAL: {display_name, status, left_at}}
                       groups: {NAME: {members}}
    signoffs.yaml      signoffs: [{class, version, scope_hash, approver, role, signed_at,
                       expires_at}]
    trust.yaml         issuers: {ISSUER: {trust_domain, has_hierarchy, bare_wildcard,
                       foreign_without_logs, max_ttl_s, single_use, revocation_cascades}}
                       trust_edges: [{from_domain, to_domain, issuer, allowed_scopes, valid_from,
                       expires_at}]
                       role_edges: [{source, target, account, expires_at}]
                       resource_servers: {NAME: {aliases}}
                       egress: [{identity, ip_prefix}]
                       delegation_records: {ID: {principal, delegate, business_unit, scopes,
                       audience, not_before, not_after, purpose, status}}
                       identity_maps: [{from_issuer, from_subject, to_issuer, to_subject, basis}]
    scopes.yaml        implications: [{issuer, audience, scope, implies}]
                       tiers: [{issuer, audience, scope, tier, action_class}]
                       maps: [{from_issuer, from_audience, from_scope,
                       to_issuer, to_audience, to_scope}]
    sources.yaml       sources: {SOURCE: {tenant_id, expected_interval_s, grace_s, retention_s,
                       paired_with, owner}}
    suppressions.yaml  suppressions: {ID: {rule, predicate, reason, owner, created_at, expires_at}}

Limits, which an agent inherits from its class unless it names its own:
expected_tools, expected_audiences, scope_ceiling, allowed_parents, allowed_children,
max_depth, max_fanout, max_ttl_s, max_renewal_s, approval_required_for,
human_root_required, jit_required, static_secret_allowed, pop_required,
source_identity_required, delegation_record_required, background_sync,
ambient_tools, approved_combinations.  A limit that is not given is null: it
says nothing, which is not an empty list.

An alias or scope entry without issuer (or audience) holds for any.
`class`, `approver` (a person), `delegate`, `delegate_for`, `allowed_parents` and
`allowed_children` must exist; owners may be groups and are not checked here.
An exception without secret_id is for any secret, without `since` from when it is
first on record.  `history` tells an agent's states before the present one: each holds
until its `until`, keys that it does not name were as they are now, and a key that it
names without a value was not given.  It wins over what a lake has recorded (see
pipeline/detections/policy.py); nothing else reaches into the past, so that a change of
today neither excuses nor accuses yesterday.
A predicate maps columns of a finding to a value or a list of values, all of
which must fit.  Times are RFC 3339 with an offset, or a date (midnight UTC).
"""

from pipeline.registry.load import Registry, load_registry

__all__ = ["Registry", "load_registry"]
