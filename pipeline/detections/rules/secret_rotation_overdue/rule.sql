-- A secret that still works has not been rotated within its limit.
--
-- One row per secret.  Its age is counted up to the watermark of what reports secrets, so a
-- rotation still under way to us is waited for.  A secret without any date is coverage debt.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
bound AS (
    SELECT
        secret.tenant_id, secret.secret_id, min(names.identity_id) AS identity_id,
        bool_or(identity.kind IN ('agent', 'agent_user')) AS is_agent,
        bool_or(identity.vendor_hosted) AS vendor_hosted
    FROM secrets AS secret
    INNER JOIN names
        ON secret.bound_identity_id = names.subject
        AND (names.issuer IS NULL OR secret.bound_identity_issuer IS NULL
            OR names.issuer = secret.bound_identity_issuer)
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
    GROUP BY secret.tenant_id, secret.secret_id
),
excepted AS (
    SELECT DISTINCT secret.tenant_id, secret.secret_id
    FROM secrets AS secret
    INNER JOIN rule_watermarks AS until ON secret.tenant_id = until.tenant_id
    INNER JOIN names
        ON secret.bound_identity_id = names.subject
        AND (names.issuer IS NULL OR secret.bound_identity_issuer IS NULL
            OR names.issuer = secret.bound_identity_issuer)
    INNER JOIN reg_static_exceptions AS exception
        ON names.identity_id = exception.identity_id
        AND (exception.secret_id IS NULL OR exception.secret_id = secret.secret_id)
        AND exception.since <= until.watermark AND exception.until > until.watermark
),
rated AS (
    SELECT secret.tenant_id, secret.secret_id, max(catalogue.tier) AS tier
    FROM secrets AS secret
    CROSS JOIN unnest(secret.scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue ON item.scope = catalogue.scope
    GROUP BY secret.tenant_id, secret.secret_id
),
-- Calls with the key are uses that its store may not know of.
ids AS (
    SELECT secret.tenant_id, secret.secret_id, name.id
    FROM secrets AS secret
    CROSS JOIN unnest([
        secret.secret_id, secret.secret_id || '/' || secret.secret_version,
        secret.secret_id || ':' || secret.secret_version
    ]) AS name(id)
    WHERE name.id IS NOT NULL
),
shown AS (
    SELECT ids.tenant_id, ids.secret_id, max(held.last_used_at) AS used_at
    FROM ids
    INNER JOIN credentials AS held ON ids.tenant_id = held.tenant_id AND ids.id = held.id
    WHERE held.is_static OR held.kind IN ('api_key_id', 'access_key_id', 'secret_version')
    GROUP BY ids.tenant_id, ids.secret_id
),
-- Who was listed together with it is listed again, and it is not: it is gone, though nobody said so.
listed AS (
    SELECT tenant_id, secret_id, max(event_time) AS listed_at, max(source) AS listed_by
    FROM secret_events
    WHERE op = 'inventory' AND snapshot_complete
    GROUP BY tenant_id, secret_id
),
listings AS (
    SELECT
        event.tenant_id, event.source, date_trunc('hour', event.event_time) AS listed_in,
        max(listed.listed_at) AS listed_again_at
    FROM secret_events AS event
    INNER JOIN listed ON event.tenant_id = listed.tenant_id AND event.secret_id = listed.secret_id
    WHERE event.op = 'inventory' AND event.snapshot_complete
    GROUP BY event.tenant_id, event.source, date_trunc('hour', event.event_time)
),
unlisted AS (
    SELECT listed.tenant_id, listed.secret_id
    FROM listed
    INNER JOIN secrets AS secret ON listed.tenant_id = secret.tenant_id AND listed.secret_id = secret.secret_id
    INNER JOIN listings
        ON listed.tenant_id = listings.tenant_id AND listed.listed_by = listings.source
        AND date_trunc('hour', listed.listed_at) = listings.listed_in
    WHERE epoch(listings.listed_again_at) - epoch(listed.listed_at) >= $relisted_s
        -- Used since, it is there.
        AND secret.last_seen < listings.listed_again_at
),
told AS (
    SELECT tenant_id, secret_id, max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer
    FROM secret_events
    GROUP BY tenant_id, secret_id
),
aged AS (
    SELECT
        secret.*, told.observer, until.watermark, shown.used_at AS called_at,
        greatest(secret.last_used_at, shown.used_at) AS used_at,
        bound.identity_id, bound.is_agent, bound.vendor_hosted, coalesce(rated.tier, 0) AS tier,
        coalesce(secret.last_rotated_at, secret.created_at) AS fresh_at,
        86400 * CASE WHEN rated.tier >= 3 THEN $max_age_high_tier_d ELSE $max_age_d END AS limit_s,
        epoch(until.watermark) - epoch(coalesce(secret.last_rotated_at, secret.created_at)) AS unrotated_s
    FROM secrets AS secret
    INNER JOIN rule_watermarks AS until ON secret.tenant_id = until.tenant_id
    LEFT JOIN bound
        ON secret.tenant_id = bound.tenant_id AND secret.secret_id = bound.secret_id
    LEFT JOIN excepted
        ON secret.tenant_id = excepted.tenant_id AND secret.secret_id = excepted.secret_id
    LEFT JOIN rated
        ON secret.tenant_id = rated.tenant_id AND secret.secret_id = rated.secret_id
    LEFT JOIN unlisted
        ON secret.tenant_id = unlisted.tenant_id AND secret.secret_id = unlisted.secret_id
    LEFT JOIN told
        ON secret.tenant_id = told.tenant_id AND secret.secret_id = told.secret_id
    LEFT JOIN shown
        ON secret.tenant_id = shown.tenant_id AND secret.secret_id = shown.secret_id
    -- Whether it has ended is judged as of the look, which may come before or after the build.
    WHERE secret.status NOT IN ('revoked', 'deleted')
        AND list_contains($kinds, secret.secret_kind)
        AND (secret.expires_at IS NULL OR secret.expires_at > until.watermark)
        AND excepted.secret_id IS NULL AND unlisted.secret_id IS NULL
),
overdue AS (
    SELECT
        *,
        fresh_at + limit_s * INTERVAL 1 SECOND AS overdue_at,
        epoch(watermark) - epoch(used_at) <= $recent_use_d * 86400
            AND coalesce(is_agent, false) AS used_by_agent
    FROM aged
    WHERE unrotated_s > limit_s
),
-- Where the registry does not know the holder, an agent is whoever makes tool calls.
callers AS (
    SELECT DISTINCT overdue.tenant_id, overdue.secret_id
    FROM overdue
    INNER JOIN (SELECT DISTINCT tenant_id, agent_id FROM tool_calls) AS caller
        ON overdue.tenant_id = caller.tenant_id
        AND caller.agent_id IN (overdue.bound_identity_id, overdue.last_accessed_by)
    WHERE epoch(overdue.watermark) - epoch(overdue.used_at) <= $recent_use_d * 86400
    UNION
    SELECT tenant_id, secret_id
    FROM overdue
    WHERE bound_identity_id IS NULL AND epoch(watermark) - epoch(called_at) <= $recent_use_d * 86400
)
SELECT
    overdue.tenant_id,
    overdue.secret_id,
    overdue.secret_id AS entity,
    coalesce(overdue.secret_kind, 'secret') || ' of ' || coalesce(overdue.bound_identity_id, 'an unknown holder')
        || ' was last rotated ' || CAST(CAST(floor(overdue.unrotated_s / 86400) AS BIGINT) AS VARCHAR)
        || ' days ago' AS title,
    3
        + CASE WHEN overdue.used_by_agent OR callers.secret_id IS NOT NULL THEN 1 ELSE 0 END
        + CASE WHEN overdue.unrotated_s > 2 * overdue.limit_s THEN 1 ELSE 0 END AS severity,
    overdue.identity_id,
    overdue.vendor_hosted,
    overdue.environment,
    overdue.observer,
    overdue.secret_kind,
    overdue.secret_version,
    overdue.store,
    overdue.bound_identity_id,
    overdue.created_at,
    overdue.last_rotated_at,
    overdue.used_at AS last_used_at,
    CAST(floor(overdue.limit_s / 86400) AS BIGINT) AS limit_d,
    CAST(floor(overdue.unrotated_s / 86400) AS BIGINT) AS unrotated_d,
    overdue.tier,
    overdue.holders,
    overdue.consumers,
    overdue.overdue_at AS first_seen,
    -- The event that disclosed it may be younger than the day on which it fell due.
    greatest(overdue.overdue_at, overdue.last_seen) AS last_seen,
    list_sort(list_distinct(overdue.event_uids)) AS event_uids
FROM overdue
LEFT JOIN callers
    ON overdue.tenant_id = callers.tenant_id AND overdue.secret_id = callers.secret_id
