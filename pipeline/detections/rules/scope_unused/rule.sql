-- A scope that is granted again and again and that nothing ever needed.
--
-- One row per holder and scope.  What a call needs is counted for everybody along its chain:
-- an agent that only hands a scope on needs it too.  Calls that do not say what they need, or
-- need what no known scope of the holder covers, speak against saying anything; so does a
-- silence of the log that its calls come from.
WITH named AS (
    SELECT name, min(identity_id) AS identity_id
    FROM reg_names
    GROUP BY name
    HAVING count(DISTINCT identity_id) = 1
),
recorded AS (
    SELECT seen.tenant_id, min(seen.first_event_time) AS since
    FROM watermarks AS seen
    WHERE seen.has_tool_calls
    GROUP BY seen.tenant_id
),
-- Tenants whose calls were recorded for nearly all of the time.
spans AS (
    SELECT
        until.tenant_id, until.watermark,
        until.watermark - $unused_d * INTERVAL 1 DAY AS since
    FROM rule_watermarks AS until
    INNER JOIN recorded ON until.tenant_id = recorded.tenant_id
    WHERE epoch(until.watermark) - epoch(recorded.since) >= $healthy_share * $unused_d * 86400
),
issued AS (
    SELECT
        held.tenant_id, held.issuer, held.scopes, held.issued_at, held.environment, held.observer,
        held.event_uids[1] AS event_uid, held.credential_key,
        coalesce(named.identity_id, held.actor_id, held.client_id, held.subject_id) AS holder,
        named.identity_id
    FROM credentials AS held
    INNER JOIN spans ON held.tenant_id = spans.tenant_id
    LEFT JOIN named ON coalesce(held.actor_id, held.client_id, held.subject_id) = named.name
    WHERE held.seen_issued AND held.scope_known AND array_length(held.scopes) > 0
        AND held.issued_at > spans.since AND held.issued_at <= spans.watermark
        -- Names of these dialects are policies: what they allow is not in the name.
        AND coalesce(held.scope_dialect, 'exact') NOT IN ('aws', 'policy')
        AND coalesce(held.actor_id, held.client_id, held.subject_id) IS NOT NULL
        AND NOT (held.actor_id IS NULL AND held.client_id IS NULL AND coalesce(held.subject_kind, '') = 'human')
),
ordinary AS (
    SELECT issued.*
    FROM issued
    LEFT JOIN reg_identities AS identity ON issued.identity_id = identity.identity_id
    LEFT JOIN reg_break_glass AS emergency
        ON issued.identity_id = emergency.identity_id
        AND issued.issued_at >= emergency.since AND issued.issued_at <= emergency.until
    WHERE emergency.identity_id IS NULL AND NOT coalesce(identity.seasonal, false)
        AND coalesce(identity.kind, 'agent') <> 'human'
),
-- Sets before scopes: there are far fewer of them than of credentials.
sets AS (
    SELECT
        tenant_id, holder, issuer, scopes, min(identity_id) AS identity_id, count(DISTINCT credential_key) AS grants,
        min(issued_at) AS first_at, max(issued_at) AS last_at,
        max(environment) AS environment, max(observer) AS observer,
        list(event_uid ORDER BY issued_at DESC, event_uid)[1:$evidence_max] AS event_uids
    FROM ordinary
    GROUP BY tenant_id, holder, issuer, scopes
),
granted AS (
    SELECT
        sets.tenant_id, sets.holder, item.scope, min(sets.identity_id) AS identity_id,
        bool_or(coalesce(issuer.has_hierarchy, false)) AS has_hierarchy,
        sum(sets.grants) AS grants, min(sets.first_at) AS first_at, max(sets.last_at) AS last_at,
        max(catalogue.tier) AS tier, max(sets.environment) AS environment, max(sets.observer) AS observer,
        list_sort(list_distinct(flatten(list(sets.event_uids))))[1:$evidence_max] AS event_uids
    FROM sets
    CROSS JOIN unnest(sets.scopes) AS item(scope)
    LEFT JOIN reg_issuers AS issuer ON sets.issuer = issuer.issuer
    LEFT JOIN (
        SELECT scope, issuer, max(tier) AS tier FROM reg_scope_tiers GROUP BY scope, issuer
    ) AS catalogue
        ON item.scope = catalogue.scope
        AND (catalogue.issuer IS NULL OR sets.issuer IS NULL OR catalogue.issuer = sets.issuer)
    WHERE item.scope NOT IN ('openid', 'profile', 'email', 'address', 'phone', 'offline_access')
    GROUP BY sets.tenant_id, sets.holder, item.scope
),
-- Calls by who stands behind them and what they need; names are joined afterwards.
grouped AS (
    SELECT
        call.tenant_id, call.source, call.agent_id, call.actor_path, coalesce(call.required_scopes, CAST([] AS VARCHAR[])) AS needs,
        count(*) AS calls, max(call.event_time) AS last_at
    FROM calls AS call
    INNER JOIN spans ON call.tenant_id = spans.tenant_id
    WHERE call.event_time > spans.since AND call.event_time <= spans.watermark
        -- A tool in the same process needs no scope.
        AND coalesce(call.tool_protocol, 'unknown') NOT IN ('mcp_stdio', 'function')
    GROUP BY call.tenant_id, call.source, call.agent_id, call.actor_path, coalesce(call.required_scopes, CAST([] AS VARCHAR[]))
),
behind AS (
    SELECT DISTINCT
        grouped.tenant_id, grouped.source, coalesce(named.identity_id, actor.name) AS holder, grouped.agent_id,
        grouped.actor_path, grouped.needs, grouped.calls, grouped.last_at
    FROM grouped
    CROSS JOIN unnest(list_append(coalesce(grouped.actor_path, CAST([] AS VARCHAR[])), grouped.agent_id)) AS actor(name)
    LEFT JOIN named ON actor.name = named.name
    WHERE actor.name IS NOT NULL
),
needed AS (
    SELECT behind.tenant_id, behind.holder, item.scope AS need, max(behind.last_at) AS last_at
    FROM behind
    CROSS JOIN unnest(behind.needs) AS item(scope)
    GROUP BY behind.tenant_id, behind.holder, item.scope
),
implied AS (
    SELECT scope, implies FROM reg_scope_implications
    UNION
    SELECT one.scope, two.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    UNION
    SELECT one.scope, three.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    INNER JOIN reg_scope_implications AS three ON two.implies = three.scope
    UNION
    SELECT from_scope AS scope, to_scope AS implies FROM reg_scope_maps
),
covering AS (
    SELECT
        granted.tenant_id, granted.holder, granted.scope, needed.need, needed.last_at,
        granted.scope = needed.need AS is_exact,
        bool_or(granted.scope = needed.need) OVER (
            PARTITION BY granted.tenant_id, granted.holder, needed.need
        ) AS has_exact
    FROM granted
    INNER JOIN needed ON granted.tenant_id = needed.tenant_id AND granted.holder = needed.holder
    LEFT JOIN implied ON granted.scope = implied.scope AND needed.need = implied.implies
    WHERE granted.scope = needed.need OR implied.scope IS NOT NULL OR granted.scope = '*'
        OR (regexp_matches(granted.scope, '[.:/]\*$')
            AND starts_with(needed.need, left(granted.scope, length(granted.scope) - 1)))
),
used AS (
    SELECT DISTINCT tenant_id, holder, scope FROM covering WHERE is_exact OR NOT has_exact
),
explained AS (
    SELECT
        behind.tenant_id, behind.holder, behind.source, behind.agent_id, behind.actor_path, behind.needs,
        min(behind.calls) AS calls,
        bool_and(covered.need IS NOT NULL) AS is_explained
    FROM behind
    CROSS JOIN unnest(behind.needs) AS item(scope)
    LEFT JOIN (SELECT DISTINCT tenant_id, holder, need FROM covering) AS covered
        ON behind.tenant_id = covered.tenant_id AND behind.holder = covered.holder AND item.scope = covered.need
    GROUP BY behind.tenant_id, behind.holder, behind.source, behind.agent_id, behind.actor_path, behind.needs
),
totals AS (
    SELECT tenant_id, holder, sum(calls) AS calls, max(last_at) AS last_call_at FROM behind GROUP BY tenant_id, holder
),
-- How long a log said nothing although it used to: in that time the scope may have been needed.
silent AS (
    SELECT
        gap.tenant_id, gap.source,
        sum(epoch(least(coalesce(gap.gap_to, gap.heard_until), spans.watermark)) - epoch(greatest(gap.gap_from, spans.since))
            - gap.expected_interval_s) AS silent_s
    FROM source_gaps AS gap
    INNER JOIN spans ON gap.tenant_id = spans.tenant_id
    WHERE epoch(least(coalesce(gap.gap_to, gap.heard_until), spans.watermark))
            - epoch(greatest(gap.gap_from, spans.since)) > greatest(3 * gap.expected_interval_s, $gap_min_s)
    GROUP BY gap.tenant_id, gap.source
),
deaf AS (
    SELECT DISTINCT behind.tenant_id, behind.holder
    FROM behind
    INNER JOIN silent ON behind.tenant_id = silent.tenant_id AND behind.source = silent.source
    WHERE silent.silent_s > (1 - $healthy_share) * $unused_d * 86400
),
known AS (
    SELECT totals.tenant_id, totals.holder, totals.calls, totals.last_call_at, sum(explained.calls) AS explained_calls
    FROM totals
    INNER JOIN explained ON totals.tenant_id = explained.tenant_id AND totals.holder = explained.holder
    WHERE explained.is_explained
    GROUP BY totals.tenant_id, totals.holder, totals.calls, totals.last_call_at
)
SELECT
    granted.tenant_id,
    granted.holder,
    granted.scope,
    granted.holder AS entity,
    granted.holder || ' was granted ' || granted.scope || ' on ' || CAST(CAST(granted.grants AS BIGINT) AS VARCHAR)
        || ' credentials and never needed it' AS title,
    CASE WHEN granted.tier >= 3 THEN 3 ELSE 2 END AS severity,
    granted.identity_id,
    registered.vendor_hosted,
    granted.environment,
    granted.observer,
    CAST(granted.grants AS BIGINT) AS granted_on,
    granted.first_at AS first_granted_at,
    granted.last_at AS last_granted_at,
    CAST(known.calls AS BIGINT) AS calls,
    CAST(known.explained_calls AS BIGINT) AS explained_calls,
    coalesce(granted.tier, 0) AS tier,
    granted.first_at AS first_seen,
    granted.last_at AS last_seen,
    granted.event_uids
FROM granted
INNER JOIN spans ON granted.tenant_id = spans.tenant_id
INNER JOIN known ON granted.tenant_id = known.tenant_id AND granted.holder = known.holder
LEFT JOIN used
    ON granted.tenant_id = used.tenant_id AND granted.holder = used.holder AND granted.scope = used.scope
LEFT JOIN reg_identities AS registered ON granted.identity_id = registered.identity_id
LEFT JOIN deaf ON granted.tenant_id = deaf.tenant_id AND granted.holder = deaf.holder
WHERE used.scope IS NULL AND deaf.holder IS NULL
    AND granted.grants >= $min_grants
    AND epoch(spans.watermark) - epoch(granted.first_at) >= $min_age_d * 86400
    AND known.explained_calls >= $healthy_share * known.calls
    -- In a hierarchy that nobody wrote down another name may stand for it.
    AND (NOT granted.has_hierarchy OR granted.scope IN (SELECT scope FROM implied))
