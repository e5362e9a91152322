-- Every credential with what is known of it.
CREATE OR REPLACE TEMP TABLE cred AS
SELECT
    m.credential_key, m.tenant_id, m.issuer, m.kind, m.id,
    coalesce(m.aliases, []) AS aliases, coalesce(m.alias_conflicts, []) AS alias_conflicts,
    m.first_seen, m.last_seen,
    f.credential_key IS NOT NULL AS has_events,
    coalesce(f.seen_issued, false) AS seen_issued,
    coalesce(f.subject_id, u.subject_id, r.subject_id) AS subject_id,
    CASE WHEN f.subject_id IS NOT NULL THEN f.subject_issuer WHEN u.subject_id IS NOT NULL THEN u.subject_issuer
        ELSE r.subject_issuer END AS subject_issuer,
    coalesce(f.subject_kind, u.subject_kind, r.subject_kind) AS subject_kind,
    coalesce(f.subject_identity, u.subject_identity, r.subject_identity) AS subject_identity,
    CASE WHEN f.subject_id IS NOT NULL THEN f.subject_namespace WHEN u.subject_id IS NOT NULL THEN u.subject_namespace
        ELSE r.subject_namespace END AS subject_namespace,
    f.actor_id, f.actor_issuer, f.actor_convention, coalesce(f.client_id, r.client_id) AS client_id,
    CASE WHEN f.credential_key IS NULL THEN coalesce(u.act_chain, []) ELSE coalesce(f.act_chain, []) END AS act_chain,
    coalesce(f.act_truncated, false) AS act_truncated, f.act_malformed_reason, f.may_act,
    -- The JOSE type of a transaction token stands for its URN.
    CASE WHEN regexp_matches(f.token_type, '^(application/)?txntoken[+]jwt$', 'i')
        THEN 'urn:ietf:params:oauth:token-type:txn_token' ELSE f.token_type END AS token_type,
    f.grant_type,
    list_sort(list_distinct(coalesce(f.scopes, u.presented_scopes, []))) AS scopes,
    -- Unknown is not empty: a credential that nobody described has no known scopes.
    coalesce(f.scopes, u.presented_scopes) IS NOT NULL AS scope_known,
    list_sort(coalesce(f.requested_scopes, [])) AS requested_scopes, f.scope_dialect,
    list_sort(list_distinct(coalesce(f.audience, u.presented_audience, []))) AS audience,
    coalesce(f.issued_at, gone.issued_at) AS issued_at, f.not_before, f.expires_at, coalesce(f.never_expires, false) AS never_expires,
    f.auth_time, f.cnf_thumbprint, coalesce(f.family_id, r.family_id) AS family_id,
    coalesce(f.consent_id, r.consent_id) AS consent_id, f.max_depth,
    coalesce(f.trust_domain, u.trust_domain) AS trust_domain,
    coalesce(f.environment, u.environment) AS environment,
    f.business_unit, f.from_trust_domain, f.to_trust_domain, f.delegation_record_id,
    f.instruction_source, f.issue_op, f.txn_id, f.trace_id, f.span_id, f.session_id, f.task_id,
    -- A long-lived secret: not a token, so no issuance is implied by its use.
    coalesce(m.kind IN ('api_key_id', 'secret_version')
        OR (m.kind = 'access_key_id' AND NOT starts_with(m.id, 'ASIA')), false) AS is_static,
    coalesce(f.made_at, m.first_seen) AS made_at,
    coalesce(f.evidence_class, u.evidence_class, 'inferred') AS evidence_class,
    coalesce(f.observer, m.best_observer) AS observer,
    coalesce(f.source, m.first_source) AS source,
    coalesce(f.conflicts, []) AS conflicts,
    coalesce(f.event_uids, []) AS event_uids,
    coalesce(f.event_uses, 0) AS event_uses, f.first_event_use, f.last_event_use,
    u.agent_id AS user_agent_id, u.agent_issuer AS user_agent_issuer,
    -- Who acts with it: outermost actor, else the client, else the subject.
    coalesce(f.actor_id, f.act_chain[1].subject, f.client_id, f.subject_id, u.agent_id, u.subject_id, r.client_id, r.subject_id)
        AS acting,
    coalesce(f.actor_id, f.act_chain[1].subject, f.client_id) IS NULL AS actor_unknown,
    -- An AWS service calls with no key of ours (CloudTrail: invokedBy), also to take a role for
    -- a machine or a function, which then holds the session.
    coalesce(f.actor_id LIKE '%.amazonaws.com', false)
        OR coalesce(f.client_id LIKE '%.amazonaws.com' OR f.client_id = 'AWS Internal', false) AS by_service,
    f.credential_key IS NULL AND coalesce(u.is_lent, false) AS is_lent,
    -- Google names neither the tokens that it makes nor those that it makes them for: the caller's
    -- own sign-in is no record that its audit log ever had.
    coalesce(m.issuer = 'gcp' AND m.kind = 'local', false) AS is_nameless,
    is_interactive(f.grant_type) AS is_interactive,
    r.credential_key IS NOT NULL AS was_renewed, coalesce(m.issuer, r.issuer) AS grant_issuer,
    (f.credential_key IS NOT NULL AND f.seen_issued
        -- A record of delegation is made by its subject and names its delegate: one actor is no history.
        AND (f.issue_op IN ('exchange', 'refresh', 'assume')
            OR len(coalesce(f.act_chain, [])) > CASE WHEN f.issue_op = 'delegate' THEN 1 ELSE 0 END
            OR f.act_malformed_reason IS NOT NULL OR is_derived_grant(f.grant_type))) IS TRUE AS derives
FROM mentioned AS m
LEFT JOIN folded AS f USING (credential_key)
LEFT JOIN used AS u USING (credential_key)
-- Only where nobody tells of its issuance.
LEFT JOIN renewed AS r ON r.credential_key = m.credential_key AND NOT coalesce(f.seen_issued, false)
LEFT JOIN forgotten AS gone USING (credential_key)
