-- A credential worked before it was valid, or after it or something it rests on had ended.
--
-- One row per credential and side.  The end is the earliest along the chain; a refresh, a
-- transaction token, an assumed role and the token got for an assertion start a life of
-- their own.
WITH uses AS (
    SELECT
        call.tenant_id, call.credential_key, call.event_uid, call.event_time AS used_at, call.source,
        call.observer, call.agent_id, call.tool_name AS used_for, call.action_class,
        call.resource_sensitivity
    FROM calls AS call
    WHERE call.outcome = 'success'
        AND call.link_confidence >= $link_confidence_min AND call.link_method IN ('T1', 'T2', 'T3')
    UNION ALL
    SELECT
        event.tenant_id, alias.credential_key, event.event_uid, event.event_time AS used_at, event.source,
        event.observer, coalesce(event.actor_id, event.client_id) AS agent_id, 'token use' AS used_for,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity
    FROM token_events AS event
    INNER JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.credential_id = alias.id
        AND event.credential_kind = alias.kind
        AND event.credential_issuer IS NOT DISTINCT FROM alias.issuer
    WHERE event.op = 'use' AND event.outcome = 'success'
    UNION ALL
    SELECT
        hop.tenant_id, hop.parent_key AS credential_key, made.event_uid, hop.hop_time AS used_at,
        child.source, child.observer, hop.delegate AS agent_id, 'exchange' AS used_for,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    CROSS JOIN unnest(hop.event_uids) AS made(event_uid)
    WHERE hop.hop_kind = 'exchange' AND hop.role = 'subject'
),
-- Cheap sieve first: nearly every use lies inside by any reading.
suspect AS (
    SELECT
        uses.*, held.issued_at, held.not_before, held.expires_at, held.source AS issued_by,
        chain.credential_path, chain.links,
        CASE WHEN uses.source = held.source THEN $skew_same_s ELSE $skew_cross_s END AS tolerance_s
    FROM uses
    INNER JOIN credentials AS held
        ON uses.tenant_id = held.tenant_id AND uses.credential_key = held.credential_key
    INNER JOIN chains AS chain
        ON uses.tenant_id = chain.tenant_id AND uses.credential_key = chain.credential_key
    WHERE uses.used_at > least(held.expires_at, chain.effective_expires_at)
        OR uses.used_at < greatest(held.not_before, held.issued_at)
),
suspect_keys AS (
    SELECT DISTINCT tenant_id, credential_key, credential_path FROM suspect
),
-- The last step on the way that starts a life of its own; what lies above it does not bind.
steps AS (
    SELECT suspect.tenant_id, suspect.credential_key, on_way.credential_key AS step_key, on_way.links AS position
    FROM suspect_keys AS suspect
    CROSS JOIN unnest(suspect.credential_path) AS step(credential_key)
    INNER JOIN chains AS on_way
        ON suspect.tenant_id = on_way.tenant_id AND step.credential_key = on_way.credential_key
),
fresh_starts AS (
    SELECT steps.tenant_id, steps.credential_key, max(steps.position) AS position
    FROM steps
    INNER JOIN hops AS hop ON steps.tenant_id = hop.tenant_id AND steps.step_key = hop.child_key
    INNER JOIN credentials AS made ON steps.tenant_id = made.tenant_id AND steps.step_key = made.credential_key
    WHERE hop.hop_kind NOT IN ('exchange', 'delegate')
        OR ends_with(lower(coalesce(made.token_type, '')), 'txn_token')
        OR ends_with(lower(coalesce(made.token_type, '')), 'txn-token')
    GROUP BY steps.tenant_id, steps.credential_key
),
bounds AS (
    SELECT steps.tenant_id, steps.credential_key, min(on_way.expires_at) AS effective_expires_at
    FROM steps
    LEFT JOIN fresh_starts AS fresh
        ON steps.tenant_id = fresh.tenant_id AND steps.credential_key = fresh.credential_key
    INNER JOIN credentials AS on_way
        ON steps.tenant_id = on_way.tenant_id AND steps.step_key = on_way.credential_key
    WHERE steps.position >= coalesce(fresh.position, 0)
    GROUP BY steps.tenant_id, steps.credential_key
),
outside AS (
    SELECT
        suspect.*, 'after' AS side, bounds.effective_expires_at,
        epoch(suspect.used_at) - epoch(bounds.effective_expires_at) AS outside_s
    FROM suspect
    INNER JOIN bounds
        ON suspect.tenant_id = bounds.tenant_id AND suspect.credential_key = bounds.credential_key
    WHERE epoch(suspect.used_at) - epoch(bounds.effective_expires_at) > suspect.tolerance_s
    UNION ALL
    SELECT
        suspect.*, 'before' AS side, bounds.effective_expires_at,
        epoch(greatest(suspect.not_before, suspect.issued_at)) - epoch(suspect.used_at) AS outside_s
    FROM suspect
    INNER JOIN bounds
        ON suspect.tenant_id = bounds.tenant_id AND suspect.credential_key = bounds.credential_key
    WHERE epoch(greatest(suspect.not_before, suspect.issued_at)) - epoch(suspect.used_at) > suspect.tolerance_s
),
placed AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY tenant_id, credential_key, side ORDER BY used_at, event_uid) AS place
    FROM outside
),
found AS (
    SELECT
        tenant_id, credential_key, side, count(*) AS uses,
        min(agent_id) FILTER (WHERE place = 1) AS agent_id,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        list_sort(list_distinct(list(used_for) FILTER (WHERE place <= $evidence_max))) AS used_for,
        list_sort(list_distinct(list(source))) AS accepted_by,
        min(effective_expires_at) AS effective_expires_at,
        max(outside_s) AS longest_outside_s, max(tolerance_s) AS tolerance_s,
        min(used_at) AS first_seen, max(used_at) AS last_seen,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM placed
    GROUP BY tenant_id, credential_key, side
)
SELECT
    found.tenant_id,
    found.credential_key,
    found.side,
    coalesce(found.agent_id, held.actor_id, held.client_id, held.id) AS entity,
    coalesce(found.agent_id, 'Someone') || ' used a credential '
        || CAST(CAST(found.longest_outside_s AS BIGINT) AS VARCHAR) || ' s '
        || CASE WHEN found.side = 'before' THEN 'before it was valid'
            WHEN found.effective_expires_at < held.expires_at OR held.expires_at IS NULL
                THEN 'after what it rests on had ended'
            ELSE 'after it had ended' END AS title,
    chain.confidence,
    chain.confidence AS chain_confidence,
    found.action_class,
    found.resource_sensitivity,
    coalesce(found.observer, 'agent_runtime') AS observer,
    held.issuer,
    held.kind,
    held.issued_at,
    held.not_before,
    held.expires_at,
    found.effective_expires_at,
    found.uses,
    found.used_for,
    found.accepted_by,
    found.longest_outside_s,
    found.tolerance_s,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(list_concat(found.event_uids, held.event_uids))) AS event_uids
FROM found
INNER JOIN credentials AS held
    ON found.tenant_id = held.tenant_id AND found.credential_key = held.credential_key
INNER JOIN chains AS chain
    ON found.tenant_id = chain.tenant_id AND found.credential_key = chain.credential_key
