-- An old version of a secret is used, or still listed, long after its rotation.
--
-- One row per secret and old version; of two access keys of one user the older one is the old
-- version.  A version is old from the first rotation to another one; a version that nobody
-- saw before that rotation is old only where its number says so.
WITH steps AS (
    SELECT
        tenant_id, secret_id, secret_version AS version, event_time, event_uid, op,
        CASE WHEN op IN ('create', 'rotate') THEN 'made' WHEN op IN ('use', 'read') THEN 'used'
            WHEN op IN ('revoke', 'delete', 'expire') THEN 'ended' ELSE 'listed' END AS step,
        accessed_by_id AS used_by, observer
    FROM secret_events
    WHERE secret_version IS NOT NULL AND op <> 'exposure'
        -- Old verification keys stay in place by design.
        AND coalesce(secret_kind, 'other') <> 'signing_key'
),
versions AS (
    SELECT DISTINCT tenant_id, secret_id, version FROM steps
),
-- A call may name a version in several ways.
named AS (
    SELECT tenant_id, secret_id, version, secret_id || '/' || version AS id FROM versions
    UNION
    SELECT tenant_id, secret_id, version, secret_id || ':' || version AS id FROM versions
    UNION
    SELECT tenant_id, secret_id, version, secret_id || '#' || version AS id FROM versions
    UNION
    SELECT tenant_id, secret_id, version, secret_id || '@' || version AS id FROM versions
    UNION
    SELECT tenant_id, min(secret_id) AS secret_id, version, version AS id
    FROM versions
    GROUP BY tenant_id, version
    HAVING count(*) = 1
),
presented AS (
    SELECT named.tenant_id, named.secret_id, named.version, held.credential_key
    FROM named
    INNER JOIN credentials AS held ON named.tenant_id = held.tenant_id AND named.id = held.id
    WHERE held.kind IN ('secret_version', 'api_key_id', 'access_key_id')
),
seen AS (
    SELECT tenant_id, secret_id, version, event_time, event_uid, step, used_by, observer FROM steps
    UNION ALL
    SELECT
        presented.tenant_id, presented.secret_id, presented.version, call.event_time,
        call.event_uid, 'used' AS step, call.agent_id AS used_by, call.observer
    FROM presented
    INNER JOIN calls AS call
        ON presented.tenant_id = call.tenant_id AND presented.credential_key = call.credential_key
    WHERE call.outcome = 'success' AND call.link_confidence >= $link_confidence_min
),
-- Each time that a version is made current again begins a new period of it.
periods AS (
    SELECT
        *,
        count(*) FILTER (WHERE step = 'made') OVER (
            PARTITION BY tenant_id, secret_id, version ORDER BY event_time, event_uid
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS period
    FROM seen
),
lives AS (
    SELECT
        tenant_id, secret_id, version, period,
        coalesce(max(event_time) FILTER (WHERE step = 'made'), min(event_time)) AS known_from,
        bool_or(step = 'made') AS was_made
    FROM periods
    GROUP BY tenant_id, secret_id, version, period
),
rotations AS (
    SELECT
        tenant_id, secret_id, version, event_time, event_uid,
        TRY_CAST(regexp_extract(version, '[0-9]+$') AS BIGINT) AS number
    FROM steps
    WHERE op = 'rotate'
),
superseded AS (
    SELECT
        life.tenant_id, life.secret_id, life.version, life.period,
        min(rotation.event_time) AS superseded_at,
        arg_min(rotation.version, rotation.event_time) AS new_version,
        arg_min(rotation.event_uid, rotation.event_time) AS rotation_uid
    FROM lives AS life
    INNER JOIN rotations AS rotation
        ON life.tenant_id = rotation.tenant_id AND life.secret_id = rotation.secret_id
    WHERE rotation.version <> life.version
        AND (rotation.event_time > life.known_from
            OR (NOT life.was_made AND life.period = 0
                AND TRY_CAST(regexp_extract(life.version, '[0-9]+$') AS BIGINT) < rotation.number))
    GROUP BY life.tenant_id, life.secret_id, life.version, life.period
),
late AS (
    SELECT
        seen.tenant_id, seen.secret_id, seen.version, seen.event_time, seen.event_uid, seen.step,
        seen.used_by, seen.observer, old.superseded_at, old.new_version, old.rotation_uid,
        max(CASE WHEN seen.step = 'ended' THEN seen.event_time END) OVER (
            PARTITION BY seen.tenant_id, seen.secret_id, seen.version
        ) AS ended_at,
        row_number() OVER (
            PARTITION BY seen.tenant_id, seen.secret_id, seen.version
            ORDER BY seen.event_time, seen.event_uid
        ) AS place
    FROM periods AS seen
    INNER JOIN superseded AS old
        ON seen.tenant_id = old.tenant_id AND seen.secret_id = old.secret_id
        AND seen.version = old.version AND seen.period = old.period
    WHERE epoch(seen.event_time) - epoch(old.superseded_at) > $overlap_s OR seen.step = 'ended'
),
old_versions AS (
    SELECT
        late.tenant_id, late.secret_id, late.version AS old_version,
        min(late.superseded_at) AS superseded_at,
        min(late.new_version) AS new_version,
        count(*) FILTER (WHERE late.step = 'used') AS late_uses,
        list_sort(list_distinct(list(late.used_by) FILTER (WHERE late.step = 'used' AND late.used_by IS NOT NULL)))
            AS used_by,
        max(late.observer) FILTER (WHERE late.observer <> 'agent_runtime') AS observer,
        min(late.event_time) AS first_seen,
        max(late.event_time) AS last_seen,
        list(late.event_uid) FILTER (WHERE late.place <= $evidence_max) AS event_uids,
        min(late.rotation_uid) AS rotation_uid
    FROM late
    -- Using it was wrong whenever it was; being listed is over once it was revoked.
    WHERE late.step = 'used'
        OR (late.step = 'listed' AND (late.ended_at IS NULL OR late.ended_at < late.event_time))
    GROUP BY late.tenant_id, late.secret_id, late.version
),
key_uses AS (
    SELECT held.tenant_id, held.id, max(held.last_used_at) AS used_at
    FROM credentials AS held
    WHERE held.kind = 'access_key_id'
    GROUP BY held.tenant_id, held.id
),
user_keys AS (
    SELECT
        held.tenant_id, held.secret_id, held.bound_identity_id, held.created_at, held.event_uids,
        greatest(held.inventory_at, held.last_used_at, key_uses.used_at) AS alive_at,
        lead(held.secret_id) OVER siblings AS newer_id,
        lead(held.created_at) OVER siblings AS newer_created_at,
        lead(held.event_uids) OVER siblings AS newer_event_uids
    FROM secrets AS held
    LEFT JOIN key_uses ON held.tenant_id = key_uses.tenant_id AND held.secret_id = key_uses.id
    WHERE held.secret_kind = 'aws_access_key' AND held.status = 'active'
        AND held.bound_identity_id IS NOT NULL AND held.created_at IS NOT NULL
    WINDOW siblings AS (
        PARTITION BY held.tenant_id, held.bound_identity_id, coalesce(held.bound_identity_issuer, '')
        ORDER BY held.created_at, held.secret_id
    )
),
found AS (
    SELECT
        old.tenant_id, old.secret_id, old.old_version, old.new_version, old.superseded_at, old.late_uses,
        coalesce(old.used_by, CAST([] AS VARCHAR[])) AS used_by,
        coalesce(old.observer, 'agent_runtime') AS observer, old.first_seen, old.last_seen,
        list_append(old.event_uids, old.rotation_uid) AS event_uids,
        'version ' || old.old_version AS what
    FROM old_versions AS old
    UNION ALL
    SELECT
        tenant_id, secret_id, '' AS old_version, newer_id AS new_version,
        newer_created_at AS superseded_at, 0 AS late_uses, CAST([] AS VARCHAR[]) AS used_by,
        CAST(NULL AS VARCHAR) AS observer,
        newer_created_at + $overlap_s * INTERVAL 1 SECOND AS first_seen, alive_at AS last_seen,
        list_concat(event_uids, newer_event_uids) AS event_uids,
        'the older of two access keys' AS what
    FROM user_keys
    WHERE epoch(alive_at) - epoch(newer_created_at) > $overlap_s
),
bound AS (
    SELECT secret.tenant_id, secret.secret_id, min(names.identity_id) AS identity_id
    FROM secrets AS secret
    INNER JOIN reg_names AS names
        ON secret.bound_identity_id = names.name
        AND (names.issuer IS NULL OR secret.bound_identity_issuer IS NULL
            OR names.issuer = secret.bound_identity_issuer)
    GROUP BY secret.tenant_id, secret.secret_id
)
SELECT
    found.tenant_id,
    found.secret_id,
    found.old_version,
    found.secret_id AS entity,
    found.secret_id || ': ' || found.what
        || CASE WHEN found.late_uses > 0 THEN ' was used ' ELSE ' was still active ' END
        || CAST(CAST(floor((epoch(found.last_seen) - epoch(found.superseded_at)) / 3600) AS BIGINT) AS VARCHAR)
        || ' hours after ' || coalesce(found.new_version, 'the new one') || ' came' AS title,
    bound.identity_id,
    secret.environment,
    found.observer,
    secret.secret_kind,
    secret.bound_identity_id,
    found.new_version,
    found.superseded_at,
    found.late_uses,
    found.used_by,
    CAST(epoch(found.last_seen) - epoch(found.superseded_at) AS BIGINT) AS old_for_s,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(found.event_uids)) AS event_uids
FROM found
INNER JOIN secrets AS secret ON found.tenant_id = secret.tenant_id AND found.secret_id = secret.secret_id
LEFT JOIN bound ON found.tenant_id = bound.tenant_id AND found.secret_id = bound.secret_id
