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
seen AS (
    SELECT tenant_id, agent_id AS name, agent_issuer AS issuer, min(event_time) AS first_at, max(event_time) AS last_at
    FROM tool_calls
    GROUP BY tenant_id, agent_id, agent_issuer
    UNION ALL
    SELECT tenant_id, actor_id AS name, actor_issuer AS issuer, min(event_time) AS first_at, max(event_time) AS last_at
    FROM token_events
    WHERE actor_id IS NOT NULL
    GROUP BY tenant_id, actor_id, actor_issuer
    UNION ALL
    SELECT tenant_id, client_id AS name, credential_issuer AS issuer, min(event_time) AS first_at,
        max(event_time) AS last_at
    FROM token_events
    WHERE client_id IS NOT NULL
    GROUP BY tenant_id, client_id, credential_issuer
),
-- A name that fits two identities, neither by its issuer, is nobody's.
known AS (
    SELECT
        seen.tenant_id, seen.name, seen.issuer, min(seen.first_at) AS first_at, max(seen.last_at) AS last_at,
        coalesce(min(named.identity_id) FILTER (WHERE named.issuer = seen.issuer), min(named.identity_id))
            AS identity_id
    FROM seen
    INNER JOIN reg_names AS named
        ON seen.name = named.name
        AND (named.issuer IS NULL OR seen.issuer IS NULL OR named.issuer = seen.issuer)
    GROUP BY seen.tenant_id, seen.name, seen.issuer
    HAVING coalesce(
        nullif(count(DISTINCT named.identity_id) FILTER (WHERE named.issuer = seen.issuer), 0),
        count(DISTINCT named.identity_id)
    ) = 1
),
tenants AS (
    SELECT DISTINCT tenant_id FROM known
),
active AS (
    SELECT tenant_id, identity_id, min(first_at) AS first_at, max(last_at) AS last_at
    FROM known
    GROUP BY tenant_id, identity_id
),
-- Only the few that are concerned are looked at event by event.
wanted AS (
    SELECT DISTINCT known.name
    FROM known
    INNER JOIN late ON known.identity_id = late.identity_id
),
acts AS (
    SELECT tenant_id, agent_id AS name, agent_issuer AS issuer, event_time, event_uid
    FROM tool_calls
    WHERE agent_id IN (SELECT name FROM wanted)
    UNION ALL
    SELECT tenant_id, actor_id AS name, actor_issuer AS issuer, event_time, event_uid
    FROM token_events
    WHERE actor_id IN (SELECT name FROM wanted)
    UNION ALL
    SELECT tenant_id, client_id AS name, credential_issuer AS issuer, event_time, event_uid
    FROM token_events
    WHERE client_id IN (SELECT name FROM wanted)
),
placed AS (
    SELECT
        known.tenant_id, known.identity_id, acts.event_uid,
        row_number() OVER (
            PARTITION BY known.tenant_id, known.identity_id ORDER BY acts.event_time DESC, acts.event_uid
        ) AS place
    FROM acts
    INNER JOIN known
        ON acts.tenant_id = known.tenant_id AND acts.name = known.name
        AND acts.issuer IS NOT DISTINCT FROM known.issuer
    INNER JOIN (SELECT DISTINCT identity_id FROM late) AS lacking ON known.identity_id = lacking.identity_id
),
evidence AS (
    SELECT tenant_id, identity_id, list_sort(list_distinct(list(event_uid))) AS event_uids
    FROM placed
    WHERE place <= $evidence_max
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
    coalesce(evidence.event_uids, CAST([] AS VARCHAR[])) AS event_uids
FROM late
CROSS JOIN tenants
LEFT JOIN active
    ON tenants.tenant_id = active.tenant_id AND late.identity_id = active.identity_id
LEFT JOIN evidence
    ON tenants.tenant_id = evidence.tenant_id AND late.identity_id = evidence.identity_id
LEFT JOIN live ON tenants.tenant_id = live.tenant_id AND late.identity_id = live.identity_id
