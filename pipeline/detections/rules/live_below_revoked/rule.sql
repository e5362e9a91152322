-- A credential was revoked, and what had been made from it stayed alive.
--
-- One row per topmost revoked credential, with its whole living subtree as a kill list.  The
-- way down leads through expired and revoked credentials.  A rotation, and a revoked access
-- token whose grant lives on, end nothing below them.
WITH below AS (
    SELECT
        chain.tenant_id, chain.credential_key AS live_key, chain.credential_path, chain.confidence,
        child.issuer, child.kind, child.id,
        coalesce(child.actor_id, child.client_id, child.subject_id) AS holder,
        coalesce(child.issued_at, child.first_seen) AS made_at,
        child.expires_at, child.never_expires, child.revoked_at, child.last_used_at,
        child.environment, child.observer, child.event_uids
    FROM chains AS chain
    INNER JOIN credentials AS child
        ON chain.tenant_id = child.tenant_id AND chain.credential_key = child.credential_key
    -- Most chains have nothing revoked on them; the rest of the rule reads only those that do.
    WHERE chain.revoked_ancestor_key IS NOT NULL
),
steps AS (
    SELECT below.*, unnest(range(1, array_length(below.credential_path))) AS place
    FROM below
),
revoked_above AS (
    SELECT
        steps.*, above.credential_key AS revoked_key, above.revoked_at AS above_revoked_at,
        greatest(above.revoked_at, steps.made_at) AS exposed_from,
        coalesce(NOT own_issuer.revocation_cascades, false)
            OR coalesce(NOT its_issuer.revocation_cascades, false) AS is_documented
    FROM steps
    INNER JOIN credentials AS above
        ON steps.tenant_id = above.tenant_id
        AND above.credential_key = list_extract(steps.credential_path, steps.place)
    LEFT JOIN hops AS hop
        ON steps.tenant_id = hop.tenant_id
        AND hop.child_key = list_extract(steps.credential_path, steps.place + 1)
    LEFT JOIN reg_issuers AS own_issuer ON steps.issuer = own_issuer.issuer
    LEFT JOIN reg_issuers AS its_issuer ON above.issuer = its_issuer.issuer
    WHERE above.revoked_at IS NOT NULL
        -- A secret that was replaced in the ordinary way was not taken from anybody.
        AND NOT (
            regexp_matches(lower(coalesce(above.revoke_reason, '')), $rotation_words)
            AND NOT regexp_matches(lower(coalesce(above.revoke_reason, '')), 'compromis|theft|stolen|leak|reuse')
        )
        -- RFC 7009: an access token goes alone, the grant that was refreshed through it stays;
        -- and a refresh token that was spent is revoked by being spent.
        AND NOT (
            coalesce(hop.hop_kind, '') IN ('refresh', 'rotate')
            AND coalesce(above.revoke_target, 'token') = 'token'
            AND (
                contains(lower(coalesce(above.token_type, '')), 'access_token')
                OR abs(epoch(above.revoked_at) - epoch(hop.hop_time)) <= $cascade_grace_s
            )
        )
),
left_alive AS (
    SELECT
        *,
        coalesce(epoch(last_used_at) - epoch(exposed_from) > $propagation_s, false) AS is_used,
        row_number() OVER (PARTITION BY tenant_id, live_key ORDER BY place) AS nearness_to_root
    FROM revoked_above
    WHERE epoch($as_of) - epoch(exposed_from) >= $cascade_grace_s
        AND (revoked_at IS NULL OR epoch(revoked_at) - epoch(exposed_from) > $cascade_grace_s)
        AND CASE
            WHEN never_expires THEN true
            WHEN expires_at IS NOT NULL THEN epoch(expires_at) - epoch(exposed_from) > $cascade_grace_s
            -- Its end is unknown; only a use shows that it lived.
            ELSE coalesce(epoch(last_used_at) - epoch(exposed_from) > $cascade_grace_s, false)
        END
),
topmost AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY tenant_id, revoked_key ORDER BY made_at, kind, id, live_key
        ) AS rank
    FROM left_alive
    WHERE nearness_to_root = 1
),
-- Made from several that fit alike, and from one of those nothing was revoked: only possible.
spared AS (
    SELECT DISTINCT topmost.tenant_id, topmost.revoked_key, topmost.live_key
    FROM topmost
    CROSS JOIN unnest(list_slice(topmost.credential_path, topmost.place + 1, array_length(topmost.credential_path)))
        AS step(credential_key)
    INNER JOIN hop_candidates AS candidate
        ON topmost.tenant_id = candidate.tenant_id AND step.credential_key = candidate.child_key
        AND candidate.reason = 'ambiguous'
    INNER JOIN credentials AS other
        ON candidate.tenant_id = other.tenant_id AND candidate.parent_key = other.credential_key
    INNER JOIN chains AS others_chain
        ON other.tenant_id = others_chain.tenant_id AND other.credential_key = others_chain.credential_key
    WHERE other.revoked_at IS NULL AND others_chain.revoked_ancestor_key IS NULL
),
-- The credentials between, dead or alive, are part of the proof.
between_them AS (
    SELECT topmost.tenant_id, topmost.revoked_key, list_distinct(flatten(list(held.event_uids))) AS event_uids
    FROM topmost
    CROSS JOIN unnest(list_slice(topmost.credential_path, topmost.place, array_length(topmost.credential_path)))
        AS step(credential_key)
    INNER JOIN credentials AS held
        ON topmost.tenant_id = held.tenant_id AND step.credential_key = held.credential_key
    WHERE topmost.rank <= $evidence_max
    GROUP BY topmost.tenant_id, topmost.revoked_key
),
later_calls AS (
    SELECT
        topmost.tenant_id, topmost.revoked_key, call.event_uid, call.event_time, call.tool_name,
        call.action_class, call.resource_sensitivity, call.observer,
        row_number() OVER (
            PARTITION BY topmost.tenant_id, topmost.revoked_key ORDER BY call.event_time, call.event_uid
        ) AS place
    FROM calls AS call
    INNER JOIN topmost
        ON call.tenant_id = topmost.tenant_id AND call.credential_key = topmost.live_key
    WHERE topmost.is_used AND call.outcome = 'success'
        AND epoch(call.event_time) - epoch(topmost.exposed_from) > $propagation_s
),
later AS (
    SELECT
        tenant_id, revoked_key, count(*) AS calls_after,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        list_sort(list_distinct(list(tool_name) FILTER (WHERE place <= $evidence_max))) AS tools_after,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM later_calls
    GROUP BY tenant_id, revoked_key
),
trees AS (
    SELECT
        topmost.tenant_id, topmost.revoked_key, min(above_revoked_at) AS revoked_at,
        count(*) AS live_count,
        bool_and(spared.live_key IS NOT NULL) AS possible,
        count(*) FILTER (
            WHERE (never_expires OR coalesce(expires_at > $as_of, false)) AND (revoked_at IS NULL OR revoked_at > $as_of)
        ) AS still_alive,
        count(*) FILTER (WHERE is_used) AS used_after,
        bool_and(is_documented) AS is_documented,
        max(confidence) AS confidence,
        list_sort(list_distinct(list(coalesce(kind, '') || ' ' || id || ' held by ' || coalesce(holder, 'unknown'))
            FILTER (WHERE rank <= $kill_list_max))) AS kill_list,
        list_sort(list_distinct(list(holder) FILTER (WHERE holder IS NOT NULL))) AS holders,
        max(epoch(expires_at) - epoch(above_revoked_at)) AS longest_life_s,
        bool_or(never_expires) AS never_ends,
        CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
            AS environment,
        coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        max(greatest(above_revoked_at, made_at, coalesce(last_used_at, made_at))) AS last_seen,
        list_distinct(flatten(list(event_uids) FILTER (WHERE rank <= $evidence_max))) AS event_uids
    FROM topmost
    LEFT JOIN spared
        ON topmost.tenant_id = spared.tenant_id AND topmost.revoked_key = spared.revoked_key
        AND topmost.live_key = spared.live_key
    GROUP BY topmost.tenant_id, topmost.revoked_key
)
SELECT
    trees.tenant_id,
    trees.revoked_key,
    coalesce(above.actor_id, above.client_id, above.subject_id, above.id) AS entity,
    CAST(trees.live_count AS VARCHAR) || ' credential(s) lived on below one of '
        || coalesce(above.actor_id, above.client_id, above.subject_id, above.id) || ' that was revoked' AS title,
    CASE
        WHEN trees.used_after > 0 THEN 4
        -- The server says that it does not cascade: a posture, until somebody makes use of it.
        WHEN trees.is_documented THEN 2
        ELSE 3
    END AS severity,
    trees.possible,
    trees.confidence,
    trees.confidence AS chain_confidence,
    trees.revoked_key AS credential_key,
    later.action_class,
    later.resource_sensitivity,
    trees.environment,
    trees.observer,
    above.issuer,
    above.kind,
    above.id AS revoked_id,
    trees.revoked_at,
    above.revoke_target,
    above.revoke_reason,
    trees.is_documented AS is_documented_non_cascade,
    trees.live_count,
    trees.still_alive,
    trees.used_after,
    trees.kill_list,
    trees.holders,
    trees.longest_life_s,
    trees.never_ends,
    coalesce(later.calls_after, 0) AS calls_after,
    later.tools_after,
    trees.revoked_at AS first_seen,
    trees.last_seen,
    list_sort(list_distinct(list_concat(
        list_concat(trees.event_uids, coalesce(later.event_uids, CAST([] AS VARCHAR[]))),
        list_concat(coalesce(between_them.event_uids, CAST([] AS VARCHAR[])), above.event_uids)
    ))) AS event_uids
FROM trees
INNER JOIN credentials AS above
    ON trees.tenant_id = above.tenant_id AND trees.revoked_key = above.credential_key
LEFT JOIN between_them
    ON trees.tenant_id = between_them.tenant_id AND trees.revoked_key = between_them.revoked_key
LEFT JOIN later ON trees.tenant_id = later.tenant_id AND trees.revoked_key = later.revoked_key
