-- Within one chain or session an agent's calls add up to a combination that is dangerous as such.
--
-- One row per combination and chain, or session where no chain is known.  Steps are tags or
-- action classes; ` > ` asks for them in this order, each strictly after the one before, ` + `
-- for any order.  Combinations that the class was approved for are left out.
WITH combinations AS (
    SELECT
        combination,
        string_split_regex(combination, ' *[>+] *') AS steps,
        contains(combination, '>') AS is_ordered
    FROM (SELECT unnest($combinations) AS combination) AS given
),
steps AS (
    SELECT combination, is_ordered, unnest(steps) AS step, unnest(range(1, array_length(steps) + 1)) AS place,
        array_length(steps) AS length
    FROM combinations
),
-- Calls that can be a step, with where they belong: the chain, else the session of an instance.
candidates AS (
    SELECT
        call.tenant_id, call.event_uid, call.event_time, call.agent_id, call.agent_issuer, call.tool_name,
        call.resource, call.action_class, call.resource_sensitivity, call.environment, call.observer,
        call.trust_domain, call.trust_domains, call.confidence, call.credential_key, call.root_principal,
        -- What a producer tells by class or sensitivity, another tells by a tag.
        list_filter(list_concat(coalesce(call.tags, CAST([] AS VARCHAR[])), [
            call.action_class,
            CASE WHEN call.action_class = 'external_send' THEN 'external_egress' END,
            CASE WHEN coalesce(call.action_class, 'read') = 'read' AND call.resource_sensitivity >= $sensitive_min
                THEN 'sensitive_read' END
        ]), lambda x: x IS NOT NULL) AS labels,
        CASE WHEN call.root_key IS NOT NULL THEN 'chain'
            WHEN call.session_id IS NOT NULL THEN 'session'
            ELSE 'instance' END AS scope,
        coalesce(
            call.root_key, call.agent_id || ' @ ' || call.session_id, call.agent_id || ' @ ' || call.agent_instance
        ) AS scope_key,
        coalesce(call.session_id, call.agent_instance) AS session
    FROM calls AS call
    WHERE call.outcome IN ('success', 'unknown')
        AND coalesce(call.root_key, call.session_id, call.agent_instance) IS NOT NULL
        AND (array_length(call.tags) > 0 OR call.action_class NOT IN ('read', 'write')
            OR call.resource_sensitivity >= $sensitive_min)
),
-- A chain that starts at a standing credential lives for months: there a session is what binds.
placed AS (
    SELECT
        candidates.tenant_id, candidates.event_uid, candidates.event_time, candidates.scope, candidates.scope_key,
        candidates.labels,
        chain.root_kind IN ('client_credentials', 'static_secret', 'workload_attested', 'unknown') AS is_standing,
        candidates.session
    FROM candidates
    LEFT JOIN chains AS chain
        ON candidates.tenant_id = chain.tenant_id AND candidates.credential_key = chain.credential_key
),
scoped AS (
    SELECT
        tenant_id, event_uid, event_time, scope,
        CASE WHEN scope = 'chain' AND coalesce(is_standing, true) AND session IS NOT NULL
            THEN scope_key || ' @ ' || session ELSE scope_key END AS scope_key,
        labels
    FROM placed
),
hits AS (
    SELECT
        scoped.tenant_id, scoped.event_uid, scoped.event_time, scoped.scope, scoped.scope_key,
        steps.combination, steps.is_ordered, steps.length,
        min(steps.place) AS place, list_distinct(list(steps.place)) AS places
    FROM (
        SELECT tenant_id, event_uid, event_time, scope, scope_key, unnest(list_distinct(labels)) AS label FROM scoped
    ) AS scoped
    INNER JOIN steps ON scoped.label = steps.step
    GROUP BY scoped.tenant_id, scoped.event_uid, scoped.event_time, scoped.scope, scoped.scope_key,
        steps.combination, steps.is_ordered, steps.length
),
-- The latest beginning from which each step has been reached, in strictly rising time.
first_step AS (
    SELECT
        *, epoch_us(event_time) AS at_us,
        max(CASE WHEN list_contains(places, 1) THEN epoch_us(event_time) END) OVER earlier AS begun_1,
        max(CASE WHEN list_contains(places, 1) THEN epoch_us(event_time) END) OVER so_far AS latest_1,
        max(CASE WHEN list_contains(places, 2) THEN epoch_us(event_time) END) OVER so_far AS latest_2,
        max(CASE WHEN list_contains(places, 3) THEN epoch_us(event_time) END) OVER so_far AS latest_3,
        max(CASE WHEN list_contains(places, 4) THEN epoch_us(event_time) END) OVER so_far AS latest_4
    FROM hits
    WINDOW
        earlier AS (PARTITION BY tenant_id, scope_key, combination ORDER BY epoch_us(event_time)
            RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
        so_far AS (PARTITION BY tenant_id, scope_key, combination ORDER BY epoch_us(event_time)
            RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
),
second_step AS (
    SELECT
        *,
        max(CASE WHEN list_contains(places, 2) THEN begun_1 END) OVER (
            PARTITION BY tenant_id, scope_key, combination ORDER BY at_us
            RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS begun_2
    FROM first_step
),
third_step AS (
    SELECT
        *,
        max(CASE WHEN list_contains(places, 3) THEN begun_2 END) OVER (
            PARTITION BY tenant_id, scope_key, combination ORDER BY at_us
            RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS begun_3
    FROM second_step
),
completed AS (
    SELECT
        tenant_id, scope, scope_key, combination, at_us,
        CASE
            WHEN NOT is_ordered THEN CASE length
                WHEN 1 THEN latest_1
                WHEN 2 THEN CASE WHEN latest_1 IS NOT NULL AND latest_2 IS NOT NULL THEN least(latest_1, latest_2) END
                WHEN 3 THEN CASE WHEN latest_1 IS NOT NULL AND latest_2 IS NOT NULL AND latest_3 IS NOT NULL
                    THEN least(latest_1, latest_2, latest_3) END
                ELSE CASE WHEN latest_1 IS NOT NULL AND latest_2 IS NOT NULL AND latest_3 IS NOT NULL
                    AND latest_4 IS NOT NULL THEN least(latest_1, latest_2, latest_3, latest_4) END
            END
            WHEN NOT list_contains(places, length) THEN NULL
            ELSE CASE length WHEN 1 THEN at_us WHEN 2 THEN begun_1 WHEN 3 THEN begun_2 ELSE begun_3 END
        END AS begun_us
    FROM third_step
    WHERE length <= 4
),
-- All times within the window at which it was complete are one finding of its scope.
found AS (
    SELECT tenant_id, scope, scope_key, combination, min(begun_us) AS begun_us, max(at_us) AS done_us
    FROM completed
    WHERE begun_us IS NOT NULL AND at_us - begun_us <= CAST($window_s AS BIGINT) * 1000000
    GROUP BY tenant_id, scope, scope_key, combination
),
members AS (
    SELECT found.tenant_id, found.scope, found.scope_key, found.combination, found.begun_us, found.done_us, call.*
        EXCLUDE (tenant_id, scope, scope_key, session),
        row_number() OVER (
            PARTITION BY found.tenant_id, found.scope_key, found.combination ORDER BY call.event_time, call.event_uid
        ) AS rank
    FROM found
    INNER JOIN hits
        ON found.tenant_id = hits.tenant_id AND found.scope_key = hits.scope_key
        AND found.combination = hits.combination
        AND epoch_us(hits.event_time) >= found.begun_us AND epoch_us(hits.event_time) <= found.done_us
    INNER JOIN candidates AS call ON hits.tenant_id = call.tenant_id AND hits.event_uid = call.event_uid
),
-- An agent may do what its class was signed off for; every agent in it must be.
approvals AS (
    SELECT member.tenant_id, member.scope_key, member.combination, member.agent_id,
        bool_or(
            list_contains(coalesce(identity.approved_combinations, CAST([] AS VARCHAR[])), member.combination)
            OR array_length(list_filter(
                coalesce(identity.approved_combinations, CAST([] AS VARCHAR[])),
                lambda x: regexp_replace(x, '[ >+,]+', ',', 'g') = regexp_replace(member.combination, '[ >+,]+', ',', 'g')
            )) > 0
        ) AS is_approved
    FROM members AS member
    LEFT JOIN reg_names AS named
        ON member.agent_id = named.name
        AND (named.issuer IS NULL OR member.agent_issuer IS NULL OR named.issuer = member.agent_issuer)
    LEFT JOIN reg_identities_as_of AS identity
        ON named.identity_id = identity.identity_id
        AND member.event_time >= identity.valid_from AND member.event_time < identity.valid_to
    GROUP BY member.tenant_id, member.scope_key, member.combination, member.agent_id
),
approved AS (
    SELECT tenant_id, scope_key, combination
    FROM approvals
    GROUP BY tenant_id, scope_key, combination
    HAVING bool_and(coalesce(is_approved, false))
),
domains AS (
    SELECT tenant_id, scope_key, combination, count(DISTINCT domain) AS domains
    FROM (
        SELECT tenant_id, scope_key, combination,
            unnest(list_append(coalesce(trust_domains, CAST([] AS VARCHAR[])), trust_domain)) AS domain
        FROM members
    ) AS one
    WHERE domain IS NOT NULL
    GROUP BY tenant_id, scope_key, combination
),
told AS (
    SELECT
        member.tenant_id, member.combination, member.scope, member.scope_key,
        min(member.agent_id) FILTER (WHERE member.rank = 1) AS first_agent,
        list_sort(list_distinct(list(member.agent_id))) AS agents,
        list_slice(list(coalesce(member.tool_name, '') || ' ' || coalesce(member.resource, '')
            ORDER BY member.rank), 1, $evidence_max) AS calls_in_order,
        list_sort(list_distinct(list(member.root_principal) FILTER (WHERE member.root_principal IS NOT NULL))) AS principals,
        min(member.credential_key) FILTER (WHERE member.rank = 1) AS credential_key,
        min(member.confidence) AS confidence,
        max(member.resource_sensitivity) AS resource_sensitivity,
        CASE WHEN bool_or(coalesce(member.environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod'
            ELSE min(member.environment) END AS environment,
        coalesce(max(member.observer) FILTER (WHERE member.observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        count(*) AS calls,
        min(member.event_time) AS first_seen, max(member.event_time) AS last_seen,
        list_sort(list_distinct(list(member.event_uid) FILTER (WHERE member.rank <= $evidence_max))) AS event_uids
    FROM members AS member
    GROUP BY member.tenant_id, member.combination, member.scope, member.scope_key
)
SELECT
    told.tenant_id,
    told.combination,
    told.scope,
    told.scope_key,
    told.first_agent AS entity,
    array_to_string(told.agents, ', ') || ' combined ' || told.combination || ' in one ' || told.scope AS title,
    CASE WHEN coalesce(domains.domains, 0) > 1 THEN 4 ELSE 3 END AS severity,
    coalesce(told.confidence, 1.0) AS confidence,
    told.confidence AS chain_confidence,
    told.credential_key,
    told.resource_sensitivity,
    told.environment,
    told.observer,
    told.agents,
    told.principals,
    told.calls_in_order,
    told.calls,
    coalesce(domains.domains, 0) AS trust_domains,
    told.first_seen,
    told.last_seen,
    list_sort(list_distinct(list_concat(
        told.event_uids, coalesce(held.event_uids, CAST([] AS VARCHAR[]))
    ))) AS event_uids
FROM told
LEFT JOIN approved
    ON told.tenant_id = approved.tenant_id AND told.scope_key = approved.scope_key
    AND told.combination = approved.combination
LEFT JOIN domains
    ON told.tenant_id = domains.tenant_id AND told.scope_key = domains.scope_key
    AND told.combination = domains.combination
LEFT JOIN credentials AS held
    ON told.tenant_id = held.tenant_id AND told.credential_key = held.credential_key
WHERE approved.scope_key IS NULL
