-- The registry as of now, with what each identity last did and still holds.
WITH names AS (
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject
    FROM reg_identities
    UNION
    SELECT identity_id, issuer, subject FROM reg_aliases
),
seen AS (
    SELECT agent_issuer AS issuer, agent_id AS subject, max(event_time) AS last_at
    FROM tool_calls
    GROUP BY agent_issuer, agent_id
    UNION ALL
    SELECT actor_issuer, actor_id, max(event_time) FROM token_events
    GROUP BY actor_issuer, actor_id
    UNION ALL
    SELECT credential_issuer, client_id, max(event_time) FROM token_events
    GROUP BY credential_issuer, client_id
),
active AS (
    SELECT names.identity_id, max(seen.last_at) AS last_activity_at
    FROM names
    JOIN seen
        ON names.subject = seen.subject
        AND (names.issuer IS NULL OR seen.issuer IS NULL OR names.issuer = seen.issuer)
    GROUP BY names.identity_id
),
held AS (
    SELECT coalesce(actor_issuer, issuer) AS issuer, coalesce(actor_id, subject_id) AS subject,
        credential_key
    FROM credentials
    WHERE revoked_at IS NULL
        AND seen_issued
        AND (expires_at > $as_of OR never_expires OR is_static)
),
live AS (
    SELECT names.identity_id, count(DISTINCT held.credential_key) AS live_credentials
    FROM names
    JOIN held
        ON names.subject = held.subject
        AND (names.issuer IS NULL OR held.issuer IS NULL OR names.issuer = held.issuer)
    GROUP BY names.identity_id
)
SELECT
    CAST(NULL AS VARCHAR) AS tenant_id,
    identity_id,
    kind,
    display_name,
    class,
    owner_iam,
    owner_platform,
    owner_application,
    environment,
    trust_domain,
    status,
    vendor_hosted,
    is_broker,
    pass_through,
    active.last_activity_at,
    coalesce(live.live_credentials, 0) AS live_credentials,
    $policy_version AS policy_version
FROM reg_identities
LEFT JOIN active USING (identity_id)
LEFT JOIN live USING (identity_id)
ORDER BY identity_id
