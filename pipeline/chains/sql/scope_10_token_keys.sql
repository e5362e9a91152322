-- What ties a token event to other events.  Hashes of 64 bits: a collision only widens the
-- scope.  The issuer is left out, so that a mention without one finds its credential.
-- Weak keys matter only where something must be inferred.
CREATE OR REPLACE TEMP TABLE token_keys AS
WITH told AS (
    SELECT *,
        op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate') AND outcome = 'success' AS is_made,
        coalesce(exact_name.identity_id, any_name.identity_id, subject_id) AS subject_identity,
        coalesce(actor_id, act_chain[1].subject, client_id, subject_id) AS acting
    FROM token_events
    LEFT JOIN identity_lookup AS exact_name ON exact_name.subject = subject_id AND exact_name.issuer = subject_issuer
    LEFT JOIN identity_lookup AS any_name ON any_name.subject = subject_id AND any_name.issuer = '*'
),
needs AS (
    SELECT *,
        is_made AND (op IN ('exchange', 'refresh', 'assume') OR len(act_chain) > 0 OR delegation_record_id IS NOT NULL)
            AND len(list_filter(parents, lambda parent: parent.role <> 'actor')) = 0 AS is_needy,
        op IN ('revoke', 'consent_revoke') AND coalesce(revoke_target, 'token') IN ('client', 'subject', 'agent')
            AS is_broad
    FROM told
)
SELECT event_uid, unnest(list_concat(
        [
            CASE WHEN credential_id IS NOT NULL THEN hash(tenant_id, credential_kind, credential_id) END,
            CASE WHEN family_id IS NOT NULL THEN hash(tenant_id, 'family', family_id) END,
            CASE WHEN consent_id IS NOT NULL THEN hash(tenant_id, 'consent', consent_id) END,
            CASE WHEN delegation_record_id IS NOT NULL THEN hash(tenant_id, 'record', delegation_record_id) END,
            CASE WHEN op = 'delegate' THEN hash(tenant_id, 'record', credential_id) END
        ],
        list_transform(credential_aliases, lambda one: hash(tenant_id, one.kind, one.id)),
        list_transform(parents, lambda one: hash(tenant_id, one.kind, one.id))
    )) AS key, false AS is_weak, is_needy
FROM needs
UNION ALL
SELECT event_uid, unnest([
        CASE WHEN txn_id IS NOT NULL THEN hash(tenant_id, 'txn', txn_id) END,
        CASE WHEN trace_id IS NOT NULL THEN hash(tenant_id, 'trace', trace_id) END,
        CASE WHEN session_id IS NOT NULL THEN hash(tenant_id, 'session', session_id) END,
        CASE WHEN task_id IS NOT NULL THEN hash(tenant_id, 'task', task_id) END,
        CASE WHEN cnf_thumbprint IS NOT NULL THEN hash(tenant_id, 'cnf', cnf_thumbprint) END,
        CASE WHEN subject_identity IS NOT NULL THEN hash(tenant_id, 'subject', subject_identity) END,
        CASE WHEN subject_id IS NOT NULL THEN hash(tenant_id, 'subject', subject_id) END,
        CASE WHEN acting IS NOT NULL THEN hash(tenant_id, 'agent', acting) END,
        CASE WHEN client_id IS NOT NULL THEN hash(tenant_id, 'client', client_id) END
    ]), true, is_needy OR is_broad
FROM needs
