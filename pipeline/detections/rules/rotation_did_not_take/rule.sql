-- An old version of a secret is used, or still listed, long after its rotation.
--
-- One row per secret and old version; of two access keys of one user the older one is the old
-- version.  A version is old from the first rotation to another one; a version that nobody
-- saw before that rotation is old only where its number says so.  Making the next number of a
-- series is a rotation as well; so is a static credential that an issuer made out of another.
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
        tenant_id, secret_id, version, event_time, event_uid, op,
        regexp_replace(version, '[0-9]+$', '') AS stem,
        TRY_CAST(regexp_extract(version, '[0-9]+$') AS BIGINT) AS number
    FROM steps
    WHERE op IN ('create', 'rotate')
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
        -- Keys without order may be meant to stand side by side.
        AND (rotation.op = 'rotate'
            OR (regexp_replace(life.version, '[0-9]+$', '') = rotation.stem
                AND TRY_CAST(regexp_extract(life.version, '[0-9]+$') AS BIGINT) < rotation.number))
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
-- Rotations that only the issuer of the credentials tells of.
replacements AS (
    SELECT
        old.tenant_id, old.credential_key, old.id, old.kind, old.environment, old.event_uids,
        coalesce(old.actor_id, old.client_id, old.subject_id, new.actor_id, new.client_id) AS holder,
        coalesce(new.issued_at, hop.hop_time) AS superseded_at, new.id AS new_id,
        new.event_uids AS new_event_uids, old.revoked_at,
        row_number() OVER (
            PARTITION BY old.tenant_id, old.credential_key
            ORDER BY coalesce(new.issued_at, hop.hop_time), new.credential_key
        ) AS place
    FROM credentials AS new
    INNER JOIN hops AS hop ON new.tenant_id = hop.tenant_id AND new.credential_key = hop.child_key
    INNER JOIN credentials AS old ON hop.tenant_id = old.tenant_id AND hop.parent_key = old.credential_key
    LEFT JOIN presented AS stored ON old.tenant_id = stored.tenant_id AND old.credential_key = stored.credential_key
    WHERE new.issue_op = 'rotate' AND old.is_static AND stored.credential_key IS NULL
),
replaced AS (
    SELECT * FROM replacements WHERE place = 1
),
replaced_uses AS (
    SELECT
        replaced.tenant_id, replaced.credential_key, call.event_time, call.event_uid, call.agent_id AS used_by,
        call.observer,
        row_number() OVER (
            PARTITION BY replaced.tenant_id, replaced.credential_key ORDER BY call.event_time, call.event_uid
        ) AS place
    FROM replaced
    INNER JOIN calls AS call
        ON replaced.tenant_id = call.tenant_id AND replaced.credential_key = call.credential_key
    WHERE call.outcome = 'success' AND call.link_confidence >= $link_confidence_min
        AND epoch(call.event_time) - epoch(replaced.superseded_at) > $overlap_s
        -- A revoked one that works is another matter.
        AND (replaced.revoked_at IS NULL OR call.event_time <= replaced.revoked_at)
),
replaced_late AS (
    SELECT
        tenant_id, credential_key, count(*) AS late_uses, list_sort(list_distinct(list(used_by))) AS used_by,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM replaced_uses
    GROUP BY tenant_id, credential_key
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
        'version ' || old.old_version AS what, CAST(NULL AS VARCHAR) AS credential_key
    FROM old_versions AS old
    UNION ALL
    SELECT
        replaced.tenant_id, replaced.id AS secret_id, '' AS old_version, replaced.new_id AS new_version,
        replaced.superseded_at, late.late_uses, late.used_by, coalesce(late.observer, 'agent_runtime') AS observer,
        late.first_seen, late.last_seen,
        list_concat(late.event_uids, list_concat(replaced.event_uids, replaced.new_event_uids)) AS event_uids,
        'the replaced credential' AS what, replaced.credential_key
    FROM replaced
    INNER JOIN replaced_late AS late
        ON replaced.tenant_id = late.tenant_id AND replaced.credential_key = late.credential_key
    UNION ALL
    SELECT
        tenant_id, secret_id, '' AS old_version, newer_id AS new_version,
        newer_created_at AS superseded_at, 0 AS late_uses, CAST([] AS VARCHAR[]) AS used_by,
        CAST(NULL AS VARCHAR) AS observer,
        newer_created_at + $overlap_s * INTERVAL 1 SECOND AS first_seen, alive_at AS last_seen,
        list_concat(event_uids, newer_event_uids) AS event_uids,
        'the older of two access keys' AS what, CAST(NULL AS VARCHAR) AS credential_key
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
),
holders AS (
    SELECT replaced.tenant_id, replaced.credential_key, min(names.identity_id) AS identity_id
    FROM replaced
    INNER JOIN reg_names AS names ON replaced.holder = names.name
    GROUP BY replaced.tenant_id, replaced.credential_key
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
    coalesce(bound.identity_id, holders.identity_id) AS identity_id,
    coalesce(secret.environment, cred.environment) AS environment,
    registered.vendor_hosted,
    found.observer,
    coalesce(secret.secret_kind, cred.kind) AS secret_kind,
    coalesce(secret.bound_identity_id, cred.actor_id, cred.client_id) AS bound_identity_id,
    found.credential_key,
    found.new_version,
    found.superseded_at,
    found.late_uses,
    found.used_by,
    CAST(epoch(found.last_seen) - epoch(found.superseded_at) AS BIGINT) AS old_for_s,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(found.event_uids)) AS event_uids
FROM found
LEFT JOIN secrets AS secret
    ON found.tenant_id = secret.tenant_id AND found.credential_key IS NULL AND found.secret_id = secret.secret_id
LEFT JOIN bound ON found.tenant_id = bound.tenant_id AND secret.secret_id = bound.secret_id
LEFT JOIN holders ON found.tenant_id = holders.tenant_id AND found.credential_key = holders.credential_key
LEFT JOIN reg_identities AS registered
    ON coalesce(bound.identity_id, holders.identity_id) = registered.identity_id
LEFT JOIN credentials AS cred
    ON found.tenant_id = cred.tenant_id AND found.credential_key = cred.credential_key
