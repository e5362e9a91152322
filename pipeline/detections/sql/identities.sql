-- The registry as of now, with what each identity last did and still holds.
WITH active AS (
    SELECT identity_id, max(last_at) AS last_activity_at
    FROM identity_activity
    GROUP BY identity_id
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
    SELECT named.identity_id, count(DISTINCT held.credential_key) AS live_credentials
    FROM reg_names AS named
    JOIN held
        ON named.name = held.subject
        AND (named.issuer IS NULL OR held.issuer IS NULL OR named.issuer = held.issuer)
    GROUP BY named.identity_id
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
