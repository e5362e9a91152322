-- One row per credential that has token events of its own: each column from the best event
-- that tells it.  A credential with nothing but its issuance is that event; the others are
-- weighed.
CREATE OR REPLACE TEMP TABLE folded AS
WITH ranked AS (
    SELECT
        *,
        row_number() OVER best AS preference,
        first_value(source) OVER best AS made_by,
        first_value(event_time) OVER best AS first_made_at
    FROM own_events
    WHERE NOT is_only
    WINDOW best AS (
        PARTITION BY credential_key
        ORDER BY is_issue DESC, evidence_rank DESC, event_time, event_uid
    )
)
SELECT
    credential_key,
    arg_min(subject_id, preference) FILTER (subject_id IS NOT NULL AND op NOT IN ('revoke')) AS subject_id,
    arg_min(subject_issuer, preference) FILTER (subject_id IS NOT NULL AND op NOT IN ('revoke')) AS subject_issuer,
    arg_min(subject_kind, preference) FILTER (subject_kind IS NOT NULL AND op NOT IN ('revoke')) AS subject_kind,
    arg_min(subject_identity, preference) FILTER (subject_id IS NOT NULL AND op NOT IN ('revoke')) AS subject_identity,
    arg_min(subject_namespace, preference) FILTER (subject_id IS NOT NULL AND op NOT IN ('revoke')) AS subject_namespace,
    arg_min(actor_id, preference) FILTER (actor_id IS NOT NULL AND is_issue) AS actor_id,
    arg_min(actor_issuer, preference) FILTER (actor_id IS NOT NULL AND is_issue) AS actor_issuer,
    arg_min(actor_convention, preference) FILTER (actor_convention IS NOT NULL AND is_issue) AS actor_convention,
    arg_min(client_id, preference) FILTER (client_id IS NOT NULL AND (is_issue OR op = 'introspect')) AS client_id,
    arg_min(act_chain, preference) FILTER (len(act_chain) > 0) AS act_chain,
    bool_or(act_truncated) AS act_truncated,
    arg_min(act_malformed_reason, preference) FILTER (act_malformed_reason IS NOT NULL) AS act_malformed_reason,
    arg_min(may_act, preference) FILTER (may_act IS NOT NULL) AS may_act,
    arg_min(token_type, preference) FILTER (token_type IS NOT NULL) AS token_type,
    arg_min(grant_type, preference) FILTER (grant_type IS NOT NULL AND is_issue) AS grant_type,
    -- An issuance that lists nothing grants nothing; another event that lists nothing says nothing.
    arg_min(granted_scopes, preference) FILTER (scope_known AND (is_issue OR (op = 'introspect' AND len(granted_scopes) > 0))) AS scopes,
    arg_min(requested_scopes, preference) FILTER (len(requested_scopes) > 0 AND is_issue) AS requested_scopes,
    arg_min(scope_dialect, preference) FILTER (scope_dialect IS NOT NULL) AS scope_dialect,
    arg_min(audience, preference) FILTER (len(audience) > 0) AS audience,
    coalesce(
        arg_min(issued_at, preference) FILTER (issued_at IS NOT NULL),
        arg_min(event_time, preference) FILTER (is_issue)
    ) AS issued_at,
    arg_min(not_before, preference) FILTER (not_before IS NOT NULL) AS not_before,
    -- Renewed in place: whoever issued it says later that it lives on.  Nobody else can, least of
    -- all who holds it.
    greatest(
        arg_min(expires_at, preference) FILTER (expires_at IS NOT NULL),
        max(expires_at) FILTER (
            op IN ('refresh', 'rotate', 'introspect') AND evidence_rank >= 3
            AND source = made_by AND event_time > first_made_at
        )
    ) AS expires_at,
    bool_or(never_expires) AS never_expires,
    arg_min(auth_time, preference) FILTER (auth_time IS NOT NULL) AS auth_time,
    arg_min(cnf_thumbprint, preference) FILTER (cnf_thumbprint IS NOT NULL AND (is_issue OR op = 'introspect')) AS cnf_thumbprint,
    arg_min(family_id, preference) FILTER (family_id IS NOT NULL) AS family_id,
    arg_min(consent_id, preference) FILTER (consent_id IS NOT NULL AND op <> 'consent_revoke') AS consent_id,
    arg_min(max_depth, preference) FILTER (max_depth IS NOT NULL) AS max_depth,
    arg_min(trust_domain, preference) FILTER (trust_domain IS NOT NULL) AS trust_domain,
    arg_min(environment, preference) FILTER (environment IS NOT NULL AND is_issue) AS environment,
    arg_min(business_unit, preference) FILTER (business_unit IS NOT NULL) AS business_unit,
    arg_min(from_trust_domain, preference) FILTER (from_trust_domain IS NOT NULL) AS from_trust_domain,
    arg_min(to_trust_domain, preference) FILTER (to_trust_domain IS NOT NULL) AS to_trust_domain,
    arg_min(delegation_record_id, preference) FILTER (delegation_record_id IS NOT NULL AND is_issue) AS delegation_record_id,
    arg_min(instruction_source, preference) FILTER (instruction_source IS NOT NULL AND is_issue) AS instruction_source,
    arg_min(op, preference) FILTER (is_issue) AS issue_op,
    arg_min(txn_id, preference) FILTER (txn_id IS NOT NULL AND is_issue) AS txn_id,
    arg_min(trace_id, preference) FILTER (trace_id IS NOT NULL AND is_issue) AS trace_id,
    arg_min(span_id, preference) FILTER (span_id IS NOT NULL AND is_issue) AS span_id,
    arg_min(session_id, preference) FILTER (session_id IS NOT NULL AND is_issue) AS session_id,
    arg_min(task_id, preference) FILTER (task_id IS NOT NULL AND is_issue) AS task_id,
    bool_or(is_issue) AS seen_issued,
    arg_min(event_time, preference) FILTER (is_issue) AS made_at,
    arg_min(observer, preference) AS observer,
    arg_min(source, preference) AS source,
    arg_min(evidence_class, preference) AS evidence_class,
    -- Believed sources that disagree; the loser is never hidden.
    list_filter([
        CASE WHEN count(DISTINCT subject_identity)
            FILTER (evidence_rank >= 2 AND subject_id IS NOT NULL AND (is_issue OR op = 'introspect')) > 1
            THEN 'subject' END,
        CASE WHEN count(DISTINCT actor_id)
            FILTER (evidence_rank >= 2 AND actor_id IS NOT NULL AND is_issue) > 1
            THEN 'actor' END
    ], lambda name: name IS NOT NULL) AS conflicts,
    list_slice(list(event_uid ORDER BY event_time, event_uid)
        FILTER (op NOT IN ('use', 'introspect')), 1, 50) AS event_uids,
    count(*) FILTER (op IN ('use', 'introspect')) AS event_uses,
    min(event_time) FILTER (op IN ('use', 'introspect')) AS first_event_use,
    max(event_time) FILTER (op IN ('use', 'introspect')) AS last_event_use
FROM ranked
GROUP BY credential_key
UNION ALL BY NAME
SELECT
    credential_key,
    subject_id,
    CASE WHEN subject_id IS NOT NULL THEN subject_issuer END AS subject_issuer,
    subject_kind,
    subject_identity,
    subject_namespace,
    actor_id,
    CASE WHEN actor_id IS NOT NULL THEN actor_issuer END AS actor_issuer,
    actor_convention,
    client_id,
    CASE WHEN len(act_chain) > 0 THEN act_chain END AS act_chain,
    act_truncated,
    act_malformed_reason,
    may_act,
    token_type,
    grant_type,
    CASE WHEN scope_known THEN granted_scopes END AS scopes,
    requested_scopes,
    scope_dialect,
    audience,
    coalesce(issued_at, event_time) AS issued_at,
    not_before,
    expires_at,
    never_expires,
    auth_time,
    cnf_thumbprint,
    family_id,
    consent_id,
    max_depth,
    trust_domain,
    environment,
    business_unit,
    from_trust_domain,
    to_trust_domain,
    delegation_record_id,
    instruction_source,
    op AS issue_op,
    txn_id,
    trace_id,
    span_id,
    session_id,
    task_id,
    true AS seen_issued,
    event_time AS made_at,
    observer,
    source,
    evidence_class,
    []::VARCHAR[] AS conflicts,
    [event_uid] AS event_uids,
    0 AS event_uses,
    NULL::TIMESTAMPTZ AS first_event_use,
    NULL::TIMESTAMPTZ AS last_event_use
FROM own_events
WHERE is_only
