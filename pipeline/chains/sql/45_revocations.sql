-- The earliest revocation that names each credential, its consent, family, client, subject or
-- agent.  A broad one reaches only what existed.
CREATE OR REPLACE TEMP TABLE revocations AS
WITH revokes AS (
    SELECT tok.*, coalesce(revoke_target, 'token') AS target, named.credential_key
    FROM tok LEFT JOIN credential_ids AS named ON named.id_key = tok.own_id_key
    WHERE op IN ('revoke', 'consent_revoke') AND outcome = 'success'
),
hits AS (
    SELECT credential_key, event_time, 'token' AS target, revoke_reason, revoke_cascade, event_uid
    FROM revokes WHERE credential_key IS NOT NULL AND op = 'revoke'
    UNION ALL
    SELECT cred.credential_key, revokes.event_time, 'family', revoke_reason, revoke_cascade, revokes.event_uid
    FROM revokes
    LEFT JOIN cred AS named ON named.credential_key = revokes.credential_key
    JOIN cred ON cred.tenant_id = revokes.tenant_id AND cred.family_id = coalesce(revokes.family_id, named.family_id)
        AND cred.issuer IS NOT DISTINCT FROM coalesce(revokes.credential_issuer, cred.issuer)
        AND cred.made_at <= revokes.event_time
    WHERE target = 'family'
    UNION ALL
    SELECT cred.credential_key, revokes.event_time, 'consent', revoke_reason, revoke_cascade, revokes.event_uid
    FROM revokes
    JOIN cred ON cred.tenant_id = revokes.tenant_id AND cred.consent_id = revokes.consent_id
        AND cred.made_at <= revokes.event_time
    WHERE op = 'consent_revoke'
    UNION ALL
    SELECT cred.credential_key, revokes.event_time, 'client', revoke_reason, revoke_cascade, revokes.event_uid
    FROM revokes
    JOIN cred ON cred.tenant_id = revokes.tenant_id AND cred.client_id = revokes.client_id
        AND cred.issuer IS NOT DISTINCT FROM coalesce(revokes.credential_issuer, cred.issuer)
        AND cred.made_at <= revokes.event_time
    WHERE target = 'client'
    UNION ALL
    SELECT cred.credential_key, revokes.event_time, 'subject', revoke_reason, revoke_cascade, revokes.event_uid
    FROM revokes
    JOIN cred ON cred.tenant_id = revokes.tenant_id AND cred.subject_identity = revokes.subject_identity
        AND same_subject(cred.subject_identity, cred.subject_namespace, revokes.subject_identity, revokes.subject_namespace)
        AND cred.made_at <= revokes.event_time
    WHERE target = 'subject'
    UNION ALL
    SELECT cred.credential_key, revokes.event_time, 'agent', revoke_reason, revoke_cascade, revokes.event_uid
    FROM revokes
    LEFT JOIN agent_lookup AS known ON known.name = coalesce(revokes.actor_id, revokes.client_id, revokes.subject_id)
    JOIN actors ON actors.identity_id = coalesce(known.identity_id, revokes.actor_id, revokes.client_id, revokes.subject_id)
    JOIN cred ON cred.tenant_id = revokes.tenant_id AND cred.acting = actors.acting
        AND cred.made_at <= revokes.event_time
    WHERE target = 'agent'
)
SELECT credential_key,
    min(event_time) AS revoked_at,
    arg_min(target, (event_time, target)) AS revoke_target,
    arg_min(revoke_reason, (event_time, event_uid)) FILTER (revoke_reason IS NOT NULL) AS revoke_reason,
    -- Only what was told to cascade takes descendants with it; that an issuer should always do so
    -- is what TR-03 checks.
    min(event_time) FILTER (revoke_cascade) AS cascade_at,
    list_sort(list_distinct(list(event_uid))) AS event_uids
FROM hits
GROUP BY credential_key
