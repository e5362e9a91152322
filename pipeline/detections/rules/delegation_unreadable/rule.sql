-- A delegation was asserted in a form that cannot be read, was cut, or is larger than a claim may be.
--
-- One row per issuer and problem.  A producer that says that it cut nothing (ext.act_omitted
-- is 0) cut nothing.
WITH asserted AS (
    SELECT
        tenant_id, event_uid, event_time, source, observer, environment,
        coalesce(credential_issuer, actor_issuer, source) AS issuer,
        coalesce(actor_id, client_id, subject_id) AS asserted_by,
        act_chain, act_truncated, act_malformed_reason, ext
    FROM token_events
    WHERE act_malformed_reason IS NOT NULL OR act_truncated OR array_length(act_chain) > 0
    UNION ALL
    SELECT
        tenant_id, event_uid, event_time, source, observer, environment,
        coalesce(credential_issuer, actor_issuer, agent_issuer, source) AS issuer,
        coalesce(agent_id, actor_id) AS asserted_by,
        act_chain, act_truncated, act_malformed_reason, ext
    FROM tool_calls
    WHERE act_malformed_reason IS NOT NULL OR act_truncated OR array_length(act_chain) > 0
),
measured AS (
    SELECT
        *,
        -- As JSON each hop is {"iss":"","sub":"","act":} around its two names.
        coalesce(list_sum(list_transform(
            act_chain, lambda hop: length(coalesce(hop.issuer, '')) + length(coalesce(hop.subject, '')) + 25
        )), 0) AS size
    FROM asserted
),
problems AS (
    SELECT *, 'malformed' AS problem, act_malformed_reason AS reason FROM measured
    WHERE coalesce(act_malformed_reason, '') <> ''
    UNION ALL
    SELECT *, 'truncated' AS problem, 'hops omitted' AS reason FROM measured
    WHERE act_truncated AND coalesce(ext['act_omitted'], '1') <> '0'
    UNION ALL
    SELECT *, 'oversized' AS problem, 'claim too large' AS reason FROM measured
    WHERE size > $act_bytes_max
),
-- An issuer that could write the claim before.
well_formed AS (
    SELECT tenant_id, issuer, min(event_time) AS since
    FROM measured
    WHERE coalesce(act_malformed_reason, '') = '' AND NOT coalesce(act_truncated, false)
        AND array_length(act_chain) > 0
    GROUP BY tenant_id, issuer
),
placed AS (
    SELECT
        problems.*, coalesce(well_formed.since < problems.event_time, false) AS was_well_formed,
        row_number() OVER (
            PARTITION BY problems.tenant_id, problems.issuer, problems.problem, problems.reason
            ORDER BY problems.event_time, problems.event_uid
        ) AS place
    FROM problems
    LEFT JOIN well_formed
        ON problems.tenant_id = well_formed.tenant_id AND problems.issuer = well_formed.issuer
)
SELECT
    tenant_id,
    issuer,
    problem,
    reason,
    issuer AS entity,
    CASE problem
        WHEN 'malformed' THEN 'Delegations of ' || issuer || ' cannot be read: ' || reason
        WHEN 'truncated' THEN 'Delegations of ' || issuer || ' were cut: earlier actors are missing'
        ELSE 'Delegations of ' || issuer || ' are larger than a claim may be'
    END AS title,
    CASE WHEN problem = 'malformed' AND bool_or(was_well_formed) THEN 3 ELSE 2 END AS severity,
    CAST(1 AS DOUBLE) AS confidence,
    min(environment) AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    bool_or(was_well_formed) AS was_well_formed,
    max(array_length(act_chain)) AS longest_hops,
    CAST(max(size) AS BIGINT) AS largest_bytes,
    list_sort(list_distinct(list(asserted_by) FILTER (WHERE asserted_by IS NOT NULL AND place <= $evidence_max)))
        AS asserted_by,
    list_sort(list_distinct(list(source) FILTER (WHERE place <= $evidence_max))) AS sources,
    count(*) AS occurrences,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    list_sort(list(event_uid) FILTER (WHERE place <= $evidence_max)) AS event_uids
FROM placed
GROUP BY tenant_id, issuer, problem, reason
