-- Many different delegations under one credential within a few minutes.
--
-- One row per credential from which they spread: the parent, or the root where no single
-- parent explains it.  Requests that repeat agent, audience and scopes are retries, or a
-- client that fetches a token per call, and count once as long as they repeat.  Agents that a
-- runtime names as children of another count from their first call, under one parent in one
-- session, task or trace: they need no tokens of their own.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
children AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, chain.root_key, hop.delegate,
        child.actor_issuer, child.event_uids, chain.confidence,
        epoch(hop.hop_time) AS at_s, hop.hop_time,
        coalesce(hop.delegate, '') || chr(31) || array_to_string(child.audience, chr(30)) || chr(31)
            || array_to_string(child.scopes, chr(30)) AS request
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    INNER JOIN chains AS chain
        ON hop.tenant_id = chain.tenant_id AND hop.child_key = chain.credential_key
    WHERE hop.hop_time IS NOT NULL
        AND (hop.hop_kind IN ('exchange', 'assume', 'delegate', 'assertion')
            -- Tokens fetched with a key, or made from a vault's token.
            OR (hop.hop_kind = 'issue' AND hop.role IN ('source', 'subject')))
),
spawned AS (
    SELECT
        tenant_id, agent_id, agent_issuer, parent_agent_id,
        'agent:' || parent_agent_id || chr(31)
            || coalesce(session_id, task_id, trace_id, CAST(event_date AS VARCHAR)) AS origin_key,
        min(event_time) AS hop_time, arg_min(event_uid, (event_time, event_uid)) AS event_uid,
        min(environment) AS environment,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer
    FROM tool_calls
    WHERE parent_agent_id IS NOT NULL AND parent_agent_id <> agent_id
    GROUP BY
        tenant_id, agent_id, agent_issuer, parent_agent_id,
        coalesce(session_id, task_id, trace_id, CAST(event_date AS VARCHAR))
),
spawners AS (
    SELECT
        tenant_id, origin_key, min(parent_agent_id) AS spreader,
        CASE WHEN count(DISTINCT coalesce(environment, 'unknown')) = 1 THEN min(environment) END AS environment,
        coalesce(max(observer), 'agent_runtime') AS observer
    FROM spawned
    GROUP BY tenant_id, origin_key
),
spread AS (
    SELECT
        tenant_id, child_key, delegate, actor_issuer, event_uids, confidence, at_s, hop_time, request,
        'parent' AS spread_from, parent_key AS origin_key
    FROM children
    UNION ALL
    SELECT
        tenant_id, child_key, delegate, actor_issuer, event_uids, confidence, at_s, hop_time, request,
        'root' AS spread_from, root_key AS origin_key
    FROM children
    UNION ALL
    SELECT
        tenant_id, 'agent:' || agent_id AS child_key, agent_id AS delegate, agent_issuer AS actor_issuer,
        [event_uid] AS event_uids,
        -- What a runtime says of itself is no proof, and no worse than a likely parent.
        CAST(0.8 AS DOUBLE) AS confidence,
        epoch(hop_time) AS at_s, hop_time, agent_id AS request,
        'agent' AS spread_from, origin_key
    FROM spawned
),
spaced AS (
    SELECT
        tenant_id, spread_from, origin_key, request, at_s,
        lag(at_s) OVER (
            PARTITION BY tenant_id, spread_from, origin_key, request ORDER BY at_s, child_key
        ) AS before_s
    FROM spread
),
-- A request counts from its first occurrence until one window after its last: the number of
-- different requests in a sliding window is then a running sum.
edges AS (
    SELECT tenant_id, spread_from, origin_key, at_s, 1 AS step
    FROM spaced
    WHERE before_s IS NULL OR at_s - before_s > $window_s
    UNION ALL
    SELECT tenant_id, spread_from, origin_key, at_s + $window_s AS at_s, -1 AS step
    FROM (
        SELECT
            *,
            lead(at_s) OVER (
                PARTITION BY tenant_id, spread_from, origin_key, request ORDER BY at_s
            ) AS after_s
        FROM spaced
    ) AS followed
    WHERE after_s IS NULL OR after_s - at_s > $window_s
),
running AS (
    SELECT
        tenant_id, spread_from, origin_key, at_s,
        sum(step) OVER (
            PARTITION BY tenant_id, spread_from, origin_key ORDER BY at_s, step DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS fan_out
    FROM edges
),
peaks AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY tenant_id, spread_from, origin_key ORDER BY fan_out DESC, at_s
        ) AS place
    FROM running
),
spreaders AS (
    SELECT
        peak.tenant_id, peak.spread_from, peak.origin_key, peak.at_s,
        CAST(peak.fan_out AS BIGINT) AS fan_out,
        origin.issuer, origin.actor_issuer,
        coalesce(origin.actor_id, origin.client_id, origin.subject_id) AS spreader,
        chain.root_key, chain.root_principal, origin.environment, origin.event_uids, origin.observer
    FROM peaks AS peak
    INNER JOIN credentials AS origin
        ON peak.tenant_id = origin.tenant_id AND peak.origin_key = origin.credential_key
    INNER JOIN chains AS chain
        ON peak.tenant_id = chain.tenant_id AND peak.origin_key = chain.credential_key
    WHERE peak.place = 1 AND peak.spread_from <> 'agent'
    UNION ALL
    SELECT
        peak.tenant_id, peak.spread_from, peak.origin_key, peak.at_s,
        CAST(peak.fan_out AS BIGINT) AS fan_out,
        CAST(NULL AS VARCHAR) AS issuer, CAST(NULL AS VARCHAR) AS actor_issuer, origin.spreader,
        peak.origin_key AS root_key, CAST(NULL AS VARCHAR) AS root_principal, origin.environment,
        CAST([] AS VARCHAR[]) AS event_uids, origin.observer
    FROM peaks AS peak
    INNER JOIN spawners AS origin
        ON peak.tenant_id = origin.tenant_id AND peak.origin_key = origin.origin_key
    WHERE peak.place = 1 AND peak.spread_from = 'agent'
),
origins AS (
    -- A registered limit can be lower than the floor; two is where spreading begins.
    SELECT * FROM spreaders WHERE fan_out >= 2
),
limits AS (
    SELECT
        origins.tenant_id, origins.spread_from, origins.origin_key,
        min(names.identity_id) AS identity_id, min(identity.max_fanout) AS max_fanout,
        bool_or(identity.vendor_hosted) AS vendor_hosted
    FROM origins
    INNER JOIN names
        ON origins.spreader = names.subject
        AND (names.issuer IS NULL OR origins.actor_issuer IS NULL OR names.issuer = origins.actor_issuer)
    INNER JOIN reg_identities_as_of AS identity
        ON names.identity_id = identity.identity_id
        AND origins.at_s >= epoch(identity.valid_from) AND origins.at_s < epoch(identity.valid_to)
    GROUP BY origins.tenant_id, origins.spread_from, origins.origin_key
),
-- What this principal reached on earlier days: some agents fan out for a living.
daily AS (
    SELECT tenant_id, spread_from, spreader, floor(at_s / 86400) AS day_number, max(fan_out) AS fan_out
    FROM spreaders
    GROUP BY tenant_id, spread_from, spreader, floor(at_s / 86400)
),
usual AS (
    SELECT
        origins.tenant_id, origins.spread_from, origins.origin_key,
        CASE WHEN count(*) >= $baseline_days THEN $baseline_factor * max(daily.fan_out) ELSE 0 END
            AS baseline
    FROM origins
    INNER JOIN daily
        ON origins.tenant_id = daily.tenant_id AND origins.spread_from = daily.spread_from
        AND origins.spreader = daily.spreader
        AND daily.day_number < floor(origins.at_s / 86400)
        AND daily.day_number >= floor(origins.at_s / 86400) - 28
    GROUP BY origins.tenant_id, origins.spread_from, origins.origin_key
),
bursts AS (
    SELECT
        origins.*, limits.identity_id, limits.max_fanout, limits.vendor_hosted,
        coalesce(limits.max_fanout + 1, greatest($floor, coalesce(usual.baseline, 0))) AS threshold
    FROM origins
    LEFT JOIN limits
        ON origins.tenant_id = limits.tenant_id AND origins.spread_from = limits.spread_from
        AND origins.origin_key = limits.origin_key
    LEFT JOIN usual
        ON origins.tenant_id = usual.tenant_id AND origins.spread_from = usual.spread_from
        AND origins.origin_key = usual.origin_key
    WHERE origins.fan_out >= coalesce(limits.max_fanout + 1, greatest($floor, coalesce(usual.baseline, 0)))
),
explained AS (
    SELECT DISTINCT tenant_id, root_key FROM bursts WHERE spread_from = 'parent'
),
-- The credentials of a burst say more than the agents that hold them.
named AS (
    SELECT DISTINCT tenant_id, spreader FROM bursts WHERE spread_from <> 'agent'
),
reported AS (
    SELECT bursts.*
    FROM bursts
    LEFT JOIN explained
        ON bursts.tenant_id = explained.tenant_id AND bursts.root_key = explained.root_key
    LEFT JOIN named
        ON bursts.tenant_id = named.tenant_id AND bursts.spreader = named.spreader
    WHERE bursts.spread_from = 'parent'
        OR (bursts.spread_from = 'root' AND explained.root_key IS NULL)
        OR (bursts.spread_from = 'agent' AND named.spreader IS NULL)
),
members AS (
    SELECT
        reported.tenant_id, reported.origin_key, spread.child_key, spread.delegate,
        spread.actor_issuer, spread.event_uids, spread.hop_time, spread.confidence,
        row_number() OVER (
            PARTITION BY reported.tenant_id, reported.origin_key
            ORDER BY spread.at_s, spread.child_key
        ) AS place
    FROM reported
    INNER JOIN spread
        ON reported.tenant_id = spread.tenant_id AND reported.spread_from = spread.spread_from
        AND reported.origin_key = spread.origin_key
        AND spread.at_s BETWEEN reported.at_s - $window_s AND reported.at_s
),
unregistered AS (
    SELECT members.tenant_id, members.origin_key, count(DISTINCT members.delegate) AS agents
    FROM members
    LEFT JOIN names
        ON members.delegate = names.subject
        AND (names.issuer IS NULL OR members.actor_issuer IS NULL OR names.issuer = members.actor_issuer)
    WHERE names.identity_id IS NULL
        -- Without a registry nobody is registered, which says nothing.
        AND EXISTS (SELECT 1 FROM reg_identities)
    GROUP BY members.tenant_id, members.origin_key
),
evidence AS (
    SELECT
        tenant_id, origin_key,
        count(DISTINCT child_key) AS child_credentials,
        count(DISTINCT delegate) AS child_agents,
        min(confidence) AS confidence,
        min(hop_time) AS first_seen,
        max(hop_time) AS last_seen,
        list_sort(list_distinct(flatten(list(event_uids) FILTER (WHERE place <= $evidence_max)))) AS event_uids
    FROM members
    GROUP BY tenant_id, origin_key
)
SELECT
    burst.tenant_id,
    burst.origin_key,
    coalesce(burst.spreader, 'unknown') AS entity,
    coalesce(burst.spreader, 'unknown') || ' spread into ' || CAST(burst.fan_out AS VARCHAR)
        || CASE WHEN burst.spread_from = 'agent' THEN ' agents' ELSE ' delegations' END || ' within ' || CAST($window_s AS VARCHAR) || ' s' AS title,
    CASE WHEN unregistered.agents > 0 THEN 4 ELSE 3 END AS severity,
    evidence.confidence,
    evidence.confidence AS chain_confidence,
    CASE WHEN burst.spread_from <> 'agent' THEN burst.origin_key END AS credential_key,
    burst.identity_id,
    burst.vendor_hosted,
    burst.environment,
    burst.observer,
    burst.spread_from,
    burst.root_principal,
    burst.fan_out,
    burst.threshold,
    burst.max_fanout,
    evidence.child_credentials,
    evidence.child_agents,
    coalesce(unregistered.agents, 0) AS unregistered_agents,
    evidence.first_seen,
    evidence.last_seen,
    list_sort(list_distinct(list_concat(evidence.event_uids, burst.event_uids))) AS event_uids
FROM reported AS burst
INNER JOIN evidence ON burst.tenant_id = evidence.tenant_id AND burst.origin_key = evidence.origin_key
LEFT JOIN unregistered
    ON burst.tenant_id = unregistered.tenant_id AND burst.origin_key = unregistered.origin_key
