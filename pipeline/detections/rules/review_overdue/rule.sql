-- An identity is past the date of its review, or past its own end, and still active.
--
-- One row per tenant, identity and kind of date: the registry holds for every tenant in which
-- an identity of it was seen.  A review that was held after it was due counts, even where
-- nobody moved the due date.  Without any date nothing is said.
WITH dated AS (
    SELECT
        identity.*,
        CASE
            WHEN identity.risk_tier = 'high' OR coalesce(grade.risk_tier = 'high', false) THEN $review_high_d
            ELSE $review_d
        END AS every_d,
        coalesce(identity.last_reviewed_at, identity.registered_at) AS reviewed_at
    FROM reg_identities AS identity
    LEFT JOIN reg_classes AS grade ON identity.class = grade.class
    WHERE identity.status = 'active' AND identity.kind <> 'human'
),
due AS (
    SELECT
        *,
        CASE
            WHEN review_due_at IS NULL OR coalesce(last_reviewed_at >= review_due_at, false)
                THEN reviewed_at + to_days(CAST(every_d AS INTEGER))
            ELSE review_due_at
        END AS due_at
    FROM dated
),
late AS (
    SELECT *, 'review overdue' AS problem, due_at AS passed_at FROM due WHERE due_at < $as_of
    UNION ALL
    SELECT *, 'past its end date' AS problem, valid_until AS passed_at FROM due WHERE valid_until < $as_of
),
tenants AS (
    SELECT DISTINCT tenant_id FROM identity_activity
),
active AS (
    SELECT
        tenant_id, identity_id, min(first_at) AS first_at, max(last_at) AS last_at,
        list_sort(list_distinct(flatten(list(event_uids)))) AS event_uids
    FROM identity_activity
    GROUP BY tenant_id, identity_id
),
held AS (
    SELECT
        held.tenant_id, named.identity_id, held.credential_key, held.issuer, held.scopes,
        held.revoked_at IS NULL AND held.seen_issued
            AND (held.expires_at > $as_of OR held.never_expires OR held.is_static) AS is_live
    FROM credentials AS held
    INNER JOIN reg_names AS named
        ON coalesce(held.actor_id, held.client_id, held.subject_id) = named.name
        AND (
            named.issuer IS NULL OR coalesce(held.actor_issuer, held.issuer) IS NULL
            OR named.issuer = coalesce(held.actor_issuer, held.issuer)
        )
    INNER JOIN (SELECT DISTINCT identity_id FROM late) AS lacking ON named.identity_id = lacking.identity_id
),
live AS (
    SELECT tenant_id, identity_id, count(DISTINCT credential_key) FILTER (WHERE is_live) AS live_credentials
    FROM held
    GROUP BY tenant_id, identity_id
)
SELECT
    tenants.tenant_id,
    late.identity_id,
    late.problem,
    late.identity_id AS entity,
    late.identity_id || ' is active and ' || CASE late.problem
        WHEN 'review overdue' THEN 'its review is overdue' ELSE 'past its end date'
    END AS title,
    CASE WHEN late.problem = 'review overdue' THEN 2 ELSE 4 END AS severity,
    late.environment,
    late.vendor_hosted,
    late.class,
    late.passed_at,
    late.last_reviewed_at,
    late.risk_tier,
    active.last_at AS last_activity_at,
    coalesce(live.live_credentials, 0) AS live_credentials,
    coalesce(active.first_at, late.passed_at) AS first_seen,
    coalesce(active.last_at, late.passed_at) AS last_seen,
    coalesce(active.event_uids, CAST([] AS VARCHAR[])) AS event_uids
FROM late
CROSS JOIN tenants
LEFT JOIN active
    ON tenants.tenant_id = active.tenant_id AND late.identity_id = active.identity_id
LEFT JOIN live ON tenants.tenant_id = live.tenant_id AND late.identity_id = live.identity_id
