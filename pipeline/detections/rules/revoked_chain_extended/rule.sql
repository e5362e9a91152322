-- A credential was made from a chain on which something had been revoked before.
--
-- One row per topmost revoked credential and extender.  A rotation, and a revoked access token
-- whose grant lives on, end nothing; nor does what was made while revocation still spread.
WITH below AS (
    SELECT
        chain.tenant_id, chain.credential_key AS made_key, chain.credential_path, chain.confidence,
        child.source, child.issuer, child.kind, child.id, child.environment, child.observer,
        hop.hop_kind, hop.hop_time, hop.delegate,
        list_concat(child.event_uids, hop.event_uids) AS event_uids
    FROM chains AS chain
    INNER JOIN credentials AS child
        ON chain.tenant_id = child.tenant_id AND chain.credential_key = child.credential_key
    INNER JOIN hops AS hop
        ON chain.tenant_id = hop.tenant_id AND chain.credential_key = hop.child_key
    WHERE chain.revoked_ancestor_key IS NOT NULL AND child.seen_issued
),
steps AS (
    SELECT below.*, unnest(range(1, array_length(below.credential_path))) AS place
    FROM below
),
extended AS (
    SELECT
        steps.*, above.credential_key AS revoked_key, above.revoked_at,
        row_number() OVER (PARTITION BY steps.tenant_id, steps.made_key ORDER BY steps.place) AS nearness_to_root
    FROM steps
    INNER JOIN credentials AS above
        ON steps.tenant_id = above.tenant_id
        AND above.credential_key = list_extract(steps.credential_path, steps.place)
    LEFT JOIN hops AS first_hop
        ON steps.tenant_id = first_hop.tenant_id
        AND first_hop.child_key = list_extract(steps.credential_path, steps.place + 1)
    WHERE above.revoked_at IS NOT NULL
        AND epoch(steps.hop_time) - epoch(above.revoked_at)
            > CASE WHEN steps.source = above.source THEN $propagation_s ELSE $skew_cross_s END
        AND NOT (
            regexp_matches(lower(coalesce(above.revoke_reason, '')), $rotation_words)
            AND NOT regexp_matches(lower(coalesce(above.revoke_reason, '')), $compromise_words)
        )
        -- RFC 7009: an access token goes alone, the grant that was refreshed through it stays;
        -- and a refresh token that was spent is revoked by being spent.
        AND NOT (
            coalesce(first_hop.hop_kind, '') IN ('refresh', 'rotate')
            AND coalesce(above.revoke_target, 'token') = 'token'
            AND (
                contains(lower(coalesce(above.token_type, '')), 'access_token')
                OR abs(epoch(above.revoked_at) - epoch(first_hop.hop_time)) <= $rotation_s
            )
        )
),
topmost AS (
    SELECT
        *,
        coalesce(delegate, 'unknown') AS extender,
        row_number() OVER (
            PARTITION BY tenant_id, revoked_key, coalesce(delegate, 'unknown')
            ORDER BY hop_time, kind, id, made_key
        ) AS rank
    FROM extended
    WHERE nearness_to_root = 1
),
-- Made from several that fit alike, and from one of those nothing was revoked: only possible.
spared AS (
    SELECT DISTINCT topmost.tenant_id, topmost.revoked_key, topmost.made_key
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
between_them AS (
    SELECT topmost.tenant_id, topmost.revoked_key, topmost.extender,
        list_distinct(flatten(list(held.event_uids))) AS event_uids
    FROM topmost
    CROSS JOIN unnest(list_slice(topmost.credential_path, topmost.place, array_length(topmost.credential_path)))
        AS step(credential_key)
    INNER JOIN credentials AS held
        ON topmost.tenant_id = held.tenant_id AND step.credential_key = held.credential_key
    WHERE topmost.rank <= $evidence_max
    GROUP BY topmost.tenant_id, topmost.revoked_key, topmost.extender
),
found AS (
    SELECT
        topmost.tenant_id, topmost.revoked_key, topmost.extender,
        count(*) AS made_count,
        bool_and(spared.made_key IS NOT NULL) AS possible,
        min(topmost.made_key) FILTER (WHERE rank = 1) AS made_key,
        max(confidence) AS confidence,
        list_sort(list_distinct(list(coalesce(kind, '') || ' ' || id) FILTER (WHERE rank <= $evidence_max))) AS made,
        list_sort(list_distinct(list(hop_kind))) AS hop_kinds,
        list_sort(list_distinct(list(source))) AS made_by,
        min(epoch(hop_time) - epoch(revoked_at)) AS soonest_after_s,
        CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
            AS environment,
        coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        min(hop_time) AS first_seen, max(hop_time) AS last_seen,
        list_distinct(flatten(list(event_uids) FILTER (WHERE rank <= $evidence_max))) AS event_uids
    FROM topmost
    LEFT JOIN spared
        ON topmost.tenant_id = spared.tenant_id AND topmost.revoked_key = spared.revoked_key
        AND topmost.made_key = spared.made_key
    GROUP BY topmost.tenant_id, topmost.revoked_key, topmost.extender
)
SELECT
    found.tenant_id,
    found.revoked_key,
    found.extender,
    found.extender AS entity,
    found.extender || ' was given ' || CAST(found.made_count AS VARCHAR)
        || ' credential(s) from a chain that had been revoked' AS title,
    CASE WHEN regexp_matches(lower(coalesce(above.revoke_reason, '')), $compromise_words) THEN 5 ELSE 4 END AS severity,
    found.possible,
    found.confidence,
    found.confidence AS chain_confidence,
    found.made_key AS credential_key,
    found.environment,
    found.observer,
    above.issuer,
    above.kind,
    above.id AS revoked_id,
    coalesce(above.actor_id, above.client_id, above.subject_id) AS revoked_holder,
    above.revoked_at,
    above.revoke_target,
    above.revoke_reason,
    found.made_count,
    found.made,
    found.made_by,
    found.hop_kinds,
    found.soonest_after_s,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(list_concat(
        list_concat(found.event_uids, coalesce(between_them.event_uids, CAST([] AS VARCHAR[]))), above.event_uids
    ))) AS event_uids
FROM found
INNER JOIN credentials AS above
    ON found.tenant_id = above.tenant_id AND found.revoked_key = above.credential_key
LEFT JOIN between_them
    ON found.tenant_id = between_them.tenant_id AND found.revoked_key = between_them.revoked_key
    AND found.extender = between_them.extender
