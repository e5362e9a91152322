-- Folded from all events of the secret: the newest that tells a column wins.  What says how
-- long it lives is taken from its newest version only: the end of an old one is part of a
-- rotation.
WITH versions AS (
    SELECT
        tenant_id, secret_id, secret_version,
        regexp_replace(secret_version, '[0-9]+$', '') AS stem,
        TRY_CAST(regexp_extract(secret_version, '[0-9]+$') AS HUGEINT) AS number,
        max(event_time) FILTER (op IN ('create', 'rotate')) AS made_at,
        max(greatest(created_at, last_rotated_at)) FILTER (op = 'inventory') AS listed_as_of,
        bool_or(op IN ('inventory', 'renew')) AS is_listed,
        min(event_time) AS first_at,
        max(event_time) AS last_at
    FROM secret_events
    WHERE secret_version IS NOT NULL
    GROUP BY tenant_id, secret_id, secret_version
),
-- A rotation that names no version makes an unknown one.  Two logs may tell one rotation, one
-- with and one without the version, minutes apart.
renewed AS (
    SELECT
        unnamed.tenant_id, unnamed.secret_id,
        CASE WHEN named.made_at + INTERVAL 5 MINUTE >= unnamed.made_at THEN NULL
            ELSE unnamed.made_at - INTERVAL 5 MINUTE END AS since
    FROM (
        SELECT tenant_id, secret_id, max(event_time) AS made_at
        FROM secret_events
        WHERE secret_version IS NULL AND op IN ('create', 'rotate')
        GROUP BY tenant_id, secret_id
    ) AS unnamed
    LEFT JOIN (
        SELECT tenant_id, secret_id, max(made_at) AS made_at FROM versions GROUP BY tenant_id, secret_id
    ) AS named USING (tenant_id, secret_id)
),
candidates AS (
    SELECT versions.*
    FROM versions
    LEFT JOIN renewed USING (tenant_id, secret_id)
    WHERE renewed.since IS NULL OR coalesce(versions.made_at, versions.first_at) >= renewed.since
),
newest_made AS (
    SELECT *
    FROM candidates
    QUALIFY row_number() OVER (
        PARTITION BY tenant_id, secret_id
        ORDER BY made_at IS NOT NULL DESC, is_listed DESC, coalesce(made_at, first_at) DESC,
            number DESC NULLS LAST, secret_version DESC
    ) = 1
),
-- One whose making nobody saw is newer where its number says so, or where a listing does; a
-- mere use may be of an old one.
current_version AS (
    SELECT
        made.tenant_id, made.secret_id,
        coalesce(
            arg_max(later.secret_version, (coalesce(later.number, -1), later.first_at, later.secret_version)),
            any_value(made.secret_version)
        ) AS secret_version
    FROM newest_made AS made
    LEFT JOIN candidates AS later
        ON made.tenant_id = later.tenant_id AND made.secret_id = later.secret_id
        AND later.made_at IS NULL AND later.secret_version <> made.secret_version
        AND CASE
            WHEN made.stem = later.stem AND made.number IS NOT NULL AND later.number IS NOT NULL
                THEN later.number > made.number AND (made.made_at IS NULL OR later.first_at >= made.made_at)
            ELSE later.is_listed
                AND coalesce(later.listed_as_of > made.made_at OR later.first_at > made.last_at, false)
        END
    GROUP BY made.tenant_id, made.secret_id
),
ordered AS (
    SELECT
        event.*,
        event.secret_version IS NULL
            OR event.secret_version IS NOT DISTINCT FROM current_version.secret_version AS is_current,
        row_number() OVER (
            PARTITION BY event.tenant_id, event.secret_id
            -- An end in the same second as a making is that of what was before.
            ORDER BY event.event_time,
                CASE WHEN event.op IN ('revoke', 'delete', 'expire') THEN 1
                    WHEN event.op IN ('create', 'rotate') THEN 2 ELSE 0 END,
                event.event_uid
        ) AS recency,
        max(event.event_time) FILTER (event.last_used_at IS NOT NULL)
            OVER (PARTITION BY event.tenant_id, event.secret_id) AS use_told_at
    FROM secret_events AS event
    LEFT JOIN current_version USING (tenant_id, secret_id)
)
SELECT
    tenant_id, secret_id,
    coalesce(arg_max(secret_kind, recency) FILTER (secret_kind IS NOT NULL), 'other') AS secret_kind,
    coalesce(
        any_value(secret_version) FILTER (is_current AND secret_version IS NOT NULL),
        arg_max(secret_version, recency) FILTER (secret_version IS NOT NULL)
    ) AS secret_version,
    arg_max(store, recency) FILTER (store IS NOT NULL) AS store,
    arg_max(environment, recency) FILTER (environment IS NOT NULL) AS environment,
    arg_max(bound_identity_id, recency) FILTER (bound_identity_id IS NOT NULL) AS bound_identity_id,
    arg_max(bound_identity_issuer, recency) FILTER (bound_identity_issuer IS NOT NULL) AS bound_identity_issuer,
    coalesce(arg_max(created_at, recency) FILTER (created_at IS NOT NULL),
        min(event_time) FILTER (op = 'create')) AS created_at,
    greatest(max(last_rotated_at), max(event_time) FILTER (op = 'rotate')) AS last_rotated_at,
    -- One that was told to have ended has ended, whatever had been planned.
    least(
        arg_max(expires_at, recency) FILTER (is_current AND expires_at IS NOT NULL),
        CASE WHEN arg_max(op, recency) FILTER (
            is_current AND op IN ('create', 'rotate', 'renew', 'inventory', 'revoke', 'delete', 'expire')
        ) = 'expire' THEN max(event_time) FILTER (is_current AND op = 'expire') END
    ) AS expires_at,
    coalesce(
        -- False is also what a record of a use says that knows nothing of it; true is always meant.
        arg_max(never_expires, recency) FILTER (
            is_current AND (never_expires OR op IN ('create', 'rotate', 'renew', 'inventory'))
        ),
        false
    ) AS never_expires,
    arg_max(ttl_s, recency) FILTER (is_current AND ttl_s IS NOT NULL) AS ttl_s,
    (epoch($as_of) - epoch(coalesce(greatest(max(last_rotated_at), max(event_time) FILTER (op = 'rotate')),
        arg_max(created_at, recency) FILTER (created_at IS NOT NULL),
        min(event_time) FILTER (op = 'create'))))::BIGINT AS age_s,
    -- Who fetches it may use it, unless somebody who sees its uses has spoken since.
    greatest(
        max(last_used_at),
        max(event_time) FILTER (op = 'use' OR (op = 'read' AND coalesce(event_time > use_told_at, true)))
    ) AS last_used_at,
    arg_max(accessed_by_id, recency) FILTER (op IN ('use', 'read') AND accessed_by_id IS NOT NULL) AS last_accessed_by,
    coalesce(list_sort(list_distinct(list(accessed_by_id) FILTER (accessed_by_id IS NOT NULL))), []) AS holders,
    coalesce(arg_max(consumers, recency) FILTER (len(consumers) > 0), []) AS consumers,
    coalesce(arg_max(scopes, recency) FILTER (len(scopes) > 0), []) AS scopes,
    arg_max(fingerprint, recency) FILTER (is_current AND fingerprint IS NOT NULL) AS fingerprint,
    CASE arg_max(op, recency) FILTER (
        is_current AND op IN ('create', 'rotate', 'renew', 'inventory', 'revoke', 'delete', 'expire')
    )
        WHEN 'revoke' THEN 'revoked' WHEN 'delete' THEN 'deleted' WHEN 'expire' THEN 'expired'
        ELSE CASE
            WHEN arg_max(expires_at, recency) FILTER (is_current AND expires_at IS NOT NULL) <= $as_of THEN 'expired'
            ELSE 'active'
        END
    END AS status,
    min(event_time) FILTER (op = 'exposure') AS exposed_at,
    arg_min(exposure_location, recency) FILTER (exposure_location IS NOT NULL) AS exposure_location,
    max(event_time) FILTER (op = 'inventory') AS inventory_at,
    arg_max(snapshot_complete, recency) FILTER (snapshot_complete IS NOT NULL) AS snapshot_complete,
    min(event_time) AS first_seen, max(event_time) AS last_seen,
    arg_max(source, recency) AS source,
    list_slice(list(event_uid ORDER BY event_time, event_uid), 1, 50) AS event_uids
FROM ordered
GROUP BY tenant_id, secret_id
