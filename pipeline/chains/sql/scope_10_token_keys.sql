-- What ties a token event to other events.  Hashes of 64 bits: a collision only widens the
-- scope.  The issuer is left out, so that a mention without one finds its credential.
-- Weak keys matter only where something must be inferred.  Every name that an event gives is
-- a key of its own: which of them the folded credential takes, other events decide.
CREATE OR REPLACE TEMP TABLE token_keys AS
WITH told AS (
    SELECT event.*,
        op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate') AND outcome = 'success' AS is_made,
        coalesce(exact_name.identity_id, any_name.identity_id, subject_id) AS subject_identity,
        list_distinct(list_filter([actor_id, act_chain[1].subject, client_id, subject_id],
            lambda name: name IS NOT NULL)) AS names
    FROM token_events AS event
    LEFT JOIN identity_lookup AS exact_name ON exact_name.subject = subject_id AND exact_name.issuer = subject_issuer
    LEFT JOIN identity_lookup AS any_name ON any_name.subject = subject_id AND any_name.issuer = '*'
),
needs AS (
    SELECT *,
        -- Only an issuance names parents; an introspection may be all that shows the actors.
        outcome = 'success' AND NOT (is_made AND len(list_filter(parents, lambda parent: parent.role <> 'actor')) > 0)
            AND (op IN ('exchange', 'refresh', 'assume') OR len(act_chain) > 0 OR act_malformed_reason IS NOT NULL
                OR delegation_record_id IS NOT NULL
                OR is_derived_grant(grant_type))
            AS is_needy,
        op IN ('revoke', 'consent_revoke') AND coalesce(revoke_target, 'token') IN ('client', 'subject', 'agent')
            AS is_broad,
        list_concat(
            CASE WHEN credential_id IS NULL THEN [] ELSE [{'kind': credential_kind, 'id': credential_id}] END,
            list_transform(credential_aliases, lambda one: {'kind': one.kind, 'id': one.id})) AS own_ids
    FROM told
)
-- 'id': the event's own credential, under all of its names.
SELECT event_uid, unnest(list_transform(own_ids, lambda one: hash(tenant_id, one.kind, one.id))) AS key,
    'id' AS strength, is_needy
FROM needs
UNION ALL
SELECT event_uid, unnest(list_concat(
        [
            CASE WHEN family_id IS NOT NULL THEN hash(tenant_id, 'family', family_id) END,
            CASE WHEN consent_id IS NOT NULL THEN hash(tenant_id, 'consent', consent_id) END
        ],
        list_transform(parents, lambda one: hash(tenant_id, one.kind, one.id))
    )), 'strong', is_needy
FROM needs
UNION ALL
SELECT event_uid, unnest(list_concat(
        [
            CASE WHEN txn_id IS NOT NULL THEN hash(tenant_id, 'txn', txn_id) END,
            CASE WHEN trace_id IS NOT NULL THEN hash(tenant_id, 'trace', trace_id) END,
            CASE WHEN session_id IS NOT NULL THEN hash(tenant_id, 'session', session_id) END,
            CASE WHEN task_id IS NOT NULL THEN hash(tenant_id, 'task', task_id) END,
            CASE WHEN cnf_thumbprint IS NOT NULL THEN hash(tenant_id, 'cnf', cnf_thumbprint) END,
            CASE WHEN subject_identity IS NOT NULL THEN hash(tenant_id, 'subject', subject_identity) END,
            CASE WHEN client_id IS NOT NULL THEN hash(tenant_id, 'client', client_id) END,
            CASE WHEN delegation_record_id IS NOT NULL THEN hash(tenant_id, 'record', delegation_record_id) END
        ],
        list_transform(own_ids, lambda one: hash(tenant_id, 'record', one.id))
    )), 'weak', is_needy OR is_broad
FROM needs
UNION ALL
SELECT named.event_uid, hash(tenant_id, 'agent', coalesce(known.identity_id, named.name)), 'weak', is_needy OR is_broad
FROM (SELECT event_uid, tenant_id, unnest(names) AS name, is_needy, is_broad FROM needs) AS named
LEFT JOIN agent_lookup AS known ON known.name = named.name
