-- The agent's own record of a call and that of the point that enforced it contradict each other.
--
-- One row per agent, enforcing source and kind of difference (identity, resource, outcome).
-- What one side does not say is no contradiction, nor are registered aliases, another issuer's
-- names, the same name in a longer form, or two logs that name a party in ways of their own.
WITH matched AS (
    SELECT link.tenant_id, link.call_key AS match_key, link.event_uid, link.event_date, link.credential_key
    FROM call_links AS link
    WHERE link.observations > 1
),
-- A short call id outside of any trace ties two records only if each side used it once, at one
-- time, and it is no counter.
short_ids AS (
    SELECT tenant_id, call_id, tool_name
    FROM tool_calls
    WHERE call_id IS NOT NULL AND length(call_id) BETWEEN 2 AND 15 AND NOT regexp_matches(call_id, '^[0-9]+$')
        AND trace_id IS NULL AND session_id IS NULL AND phase <> 'pre'
    GROUP BY tenant_id, call_id, tool_name
    HAVING count(DISTINCT source) >= 2 AND count(DISTINCT event_uid) = count(DISTINCT source)
        AND bool_or(observer = 'agent_runtime')
        AND epoch(max(event_time)) - epoch(min(event_time)) <= $short_id_within_s
),
-- One log alone contradicts nothing.
proofs AS (
    SELECT tenant_id, single_use_id
    FROM tool_calls
    WHERE single_use_id IS NOT NULL
    GROUP BY tenant_id, single_use_id
    HAVING bool_or(observer = 'agent_runtime') AND bool_or(observer <> 'agent_runtime')
),
observed AS (
    SELECT
        matched.match_key, event.tenant_id, event.event_uid, event.event_time, event.source, event.observer,
        event.environment, event.tool_name, event.tool_server, event.action_class, event.resource_sensitivity,
        event.phase, event.outcome, event.resource, event.agent_id, event.agent_issuer, event.agent_instance,
        event.actor_id, event.actor_issuer, event.workload_id, event.subject_id, event.subject_issuer, event.act_chain,
        event.act_truncated, event.act_malformed_reason,
        CASE WHEN held.seen_issued AND NOT held.act_truncated AND held.act_malformed_reason IS NULL
            THEN array_length(held.act_chain)
        END AS issued_actors
    FROM matched
    INNER JOIN tool_calls AS event
        ON matched.tenant_id = event.tenant_id AND matched.event_uid = event.event_uid
        AND matched.event_date = event.event_date
    LEFT JOIN credentials AS held
        ON matched.tenant_id = held.tenant_id AND matched.credential_key = held.credential_key
    UNION ALL
    -- A proof of possession ties two records also where they share no call id.
    SELECT
        'proof ' || event.single_use_id AS match_key, event.tenant_id, event.event_uid, event.event_time,
        event.source, event.observer, event.environment, event.tool_name, event.tool_server, event.action_class,
        event.resource_sensitivity, event.phase, event.outcome, event.resource, event.agent_id, event.agent_issuer,
        event.agent_instance, event.actor_id, event.actor_issuer, event.workload_id, event.subject_id,
        event.subject_issuer, event.act_chain, event.act_truncated, event.act_malformed_reason,
        CAST(NULL AS BIGINT) AS issued_actors
    FROM tool_calls AS event
    INNER JOIN proofs
        ON event.tenant_id = proofs.tenant_id AND event.single_use_id = proofs.single_use_id
    UNION ALL
    SELECT
        'id ' || event.call_id || ' ' || event.tool_name AS match_key, event.tenant_id, event.event_uid,
        event.event_time, event.source, event.observer, event.environment, event.tool_name, event.tool_server,
        event.action_class, event.resource_sensitivity, event.phase, event.outcome, event.resource, event.agent_id,
        event.agent_issuer, event.agent_instance, event.actor_id, event.actor_issuer, event.workload_id,
        event.subject_id, event.subject_issuer, event.act_chain, event.act_truncated, event.act_malformed_reason,
        CAST(NULL AS BIGINT) AS issued_actors
    FROM tool_calls AS event
    INNER JOIN short_ids
        ON event.tenant_id = short_ids.tenant_id AND event.call_id = short_ids.call_id
        AND event.tool_name = short_ids.tool_name
    WHERE event.trace_id IS NULL AND event.session_id IS NULL
),
told AS (
    SELECT * FROM observed WHERE observer = 'agent_runtime'
),
enforced AS (
    SELECT * FROM observed WHERE observer IN ('gateway', 'resource_server', 'authz_server', 'cloud_audit', 'secret_store')
),
paired AS (
    SELECT
        told.tenant_id, told.match_key, told.event_uid AS told_uid, enforced.event_uid AS enforced_uid,
        told.agent_id AS agent, told.agent_issuer, told.source AS told_source, enforced.source AS enforced_source,
        enforced.observer, enforced.environment, told.event_time AS told_at, enforced.event_time AS enforced_at,
        coalesce(enforced.tool_name, told.tool_name) AS tool_name,
        coalesce(enforced.action_class, told.action_class) AS action_class,
        greatest(coalesce(told.resource_sensitivity, 0), coalesce(enforced.resource_sensitivity, 0)) AS sensitivity,
        told.subject_id AS told_subject, told.subject_issuer AS told_subject_issuer,
        enforced.subject_id AS enforced_subject, enforced.subject_issuer AS enforced_subject_issuer,
        told.actor_id AS told_actor, enforced.actor_id AS enforced_actor,
        told.actor_issuer AS told_actor_issuer, enforced.actor_issuer AS enforced_actor_issuer,
        enforced.agent_id AS enforced_agent, enforced.agent_issuer AS enforced_agent_issuer,
        told.agent_instance, told.workload_id, enforced.workload_id AS enforced_workload,
        told.resource AS told_resource, enforced.resource AS enforced_resource,
        told.act_chain AS told_hops, enforced.act_chain AS enforced_hops,
        coalesce(enforced.act_truncated, false) OR enforced.act_malformed_reason IS NOT NULL AS is_cut,
        coalesce(enforced.issued_actors, told.issued_actors) AS issued_actors
    FROM told
    INNER JOIN enforced ON told.tenant_id = enforced.tenant_id AND told.match_key = enforced.match_key
),
-- One named thing as both sides have it.
compared AS (
    SELECT
        tenant_id, match_key, told_uid, enforced_uid, told_source, enforced_source, 'subject' AS field,
        told_subject AS said, enforced_subject AS seen
    FROM paired
    WHERE told_subject IS NOT NULL AND enforced_subject IS NOT NULL
        AND (told_subject_issuer = enforced_subject_issuer
            OR ((told_subject_issuer IS NULL OR enforced_subject_issuer IS NULL) AND observer <> 'cloud_audit'))
    UNION ALL
    SELECT
        tenant_id, match_key, told_uid, enforced_uid, told_source, enforced_source, 'actor' AS field,
        told_actor AS said, enforced_actor AS seen
    FROM paired
    WHERE told_actor IS NOT NULL AND enforced_actor IS NOT NULL
        AND (told_actor_issuer = enforced_actor_issuer
            OR ((told_actor_issuer IS NULL OR enforced_actor_issuer IS NULL) AND observer <> 'cloud_audit'))
    UNION ALL
    SELECT
        tenant_id, match_key, told_uid, enforced_uid, told_source, enforced_source, 'agent' AS field,
        agent AS said, enforced_agent AS seen
    FROM paired
    WHERE agent <> 'unknown' AND enforced_agent <> 'unknown'
        AND (agent_issuer = enforced_agent_issuer
            OR ((agent_issuer IS NULL OR enforced_agent_issuer IS NULL) AND observer <> 'cloud_audit'))
        -- One side may name the client, the instance or the workload of the other's agent.
        AND enforced_agent NOT IN (coalesce(told_actor, ''), coalesce(agent_instance, ''), coalesce(workload_id, ''))
        AND agent NOT IN (coalesce(enforced_actor, ''), coalesce(enforced_workload, ''))
    UNION ALL
    SELECT
        tenant_id, match_key, told_uid, enforced_uid, told_source, enforced_source, 'resource' AS field,
        told_resource AS said, enforced_resource AS seen
    FROM paired
    WHERE told_resource IS NOT NULL AND enforced_resource IS NOT NULL
),
-- Many calls show the same two names: each pair is judged once.
shortened AS (
    SELECT
        field, said, seen,
        regexp_replace(rtrim(lower(said), '/'), '^.*[/:]', '') AS said_short,
        regexp_replace(rtrim(lower(seen), '/'), '^.*[/:]', '') AS seen_short,
        NOT contains(said || seen, ':') AND contains(said, '/')
            AND length(replace(rtrim(said, '/'), '/', '')) - length(rtrim(said, '/'))
            = length(replace(rtrim(seen, '/'), '/', '')) - length(rtrim(seen, '/')) AS are_like_paths,
        regexp_extract(lower(said), '^[a-z0-9_.-]+(?:://[a-z0-9_.-]*|[:/])') AS said_form,
        regexp_extract(lower(seen), '^[a-z0-9_.-]+(?:://[a-z0-9_.-]*|[:/])') AS seen_form
    FROM (SELECT DISTINCT field, said, seen FROM compared) AS pair
),
aliases AS (
    SELECT DISTINCT pair.said, pair.seen
    FROM (SELECT DISTINCT said, seen FROM shortened WHERE said <> seen) AS pair
    INNER JOIN reg_names AS one ON pair.said = one.name
    INNER JOIN reg_names AS other ON pair.seen = other.name AND one.identity_id = other.identity_id
    UNION
    SELECT DISTINCT shortened.said, shortened.seen
    FROM shortened
    INNER JOIN reg_identity_maps AS mapped
        ON (shortened.said = mapped.from_subject AND shortened.seen = mapped.to_subject)
    UNION
    SELECT DISTINCT shortened.said, shortened.seen
    FROM shortened
    INNER JOIN reg_identity_maps AS mapped
        ON (shortened.said = mapped.to_subject AND shortened.seen = mapped.from_subject)
    UNION
    SELECT DISTINCT shortened.said, shortened.seen
    FROM shortened
    INNER JOIN reg_resource_aliases AS named ON shortened.said = named.server AND shortened.seen = named.alias
),
judged AS (
    SELECT
        shortened.field, shortened.said, shortened.seen, shortened.said_form, shortened.seen_form,
        lower(shortened.said) = lower(shortened.seen)
            OR CASE
                WHEN shortened.field = 'resource'
                    THEN ends_with(lower(shortened.said), lower(shortened.seen))
                        OR ends_with(lower(shortened.seen), lower(shortened.said))
                        -- Two paths of one length with another beginning are two things.
                        OR (shortened.said_short = shortened.seen_short AND NOT shortened.are_like_paths)
                WHEN contains(shortened.said_short, '@') AND contains(shortened.seen_short, '@')
                    THEN shortened.said_short = shortened.seen_short
                ELSE split_part(shortened.said_short, '@', 1) = split_part(shortened.seen_short, '@', 1)
            END
            OR aliases.said IS NOT NULL AS agrees
    FROM shortened
    LEFT JOIN aliases ON shortened.said = aliases.said AND shortened.seen = aliases.seen
),
answered AS (
    SELECT compared.*, judged.said_form, judged.seen_form, judged.agrees
    FROM compared
    INNER JOIN judged
        ON compared.field = judged.field AND compared.said = judged.said AND compared.seen = judged.seen
),
habits AS (
    SELECT
        tenant_id, told_source, enforced_source, field,
        count(*) FILTER (WHERE agrees) AS agreeing
    FROM answered
    GROUP BY tenant_id, told_source, enforced_source, field
),
said_habits AS (
    SELECT
        tenant_id, told_source, enforced_source, field, said, count(DISTINCT seen) AS names,
        count(DISTINCT match_key) AS calls
    FROM answered
    GROUP BY tenant_id, told_source, enforced_source, field, said
),
seen_habits AS (
    SELECT tenant_id, told_source, enforced_source, field, seen, count(DISTINCT said) AS names
    FROM answered
    GROUP BY tenant_id, told_source, enforced_source, field, seen
),
different AS (
    SELECT answered.*
    FROM answered
    INNER JOIN habits
        ON answered.tenant_id = habits.tenant_id AND answered.told_source = habits.told_source
        AND answered.enforced_source = habits.enforced_source AND answered.field = habits.field
    INNER JOIN said_habits AS said_as
        ON answered.tenant_id = said_as.tenant_id AND answered.told_source = said_as.told_source
        AND answered.enforced_source = said_as.enforced_source AND answered.field = said_as.field
        AND answered.said = said_as.said
    INNER JOIN seen_habits AS seen_as
        ON answered.tenant_id = seen_as.tenant_id AND answered.told_source = seen_as.told_source
        AND answered.enforced_source = seen_as.enforced_source AND answered.field = seen_as.field
        AND answered.seen = seen_as.seen
    WHERE NOT answered.agrees
        -- Two logs that never agree, one name always for one other: a way of naming.
        AND NOT (
            habits.agreeing = 0 AND said_as.names = 1 AND seen_as.names = 1 AND said_as.calls >= $naming_calls_min
        )
        -- Resources in forms that cannot be compared say nothing.
        AND (answered.field <> 'resource' OR habits.agreeing > 0 OR answered.said_form = answered.seen_form)
),
chains_differ AS (
    SELECT
        tenant_id, match_key, told_uid, enforced_uid, 'act_chain' AS field,
        array_to_string(told_chain, ' < ') AS said, array_to_string(enforced_chain, ' < ') AS seen
    FROM (
        SELECT
            tenant_id, match_key, told_uid, enforced_uid, is_cut, issued_actors,
            list_transform(told_hops, lambda hop: regexp_replace(lower(hop.subject), '^.*[/:]', '')) AS told_chain,
            list_transform(enforced_hops, lambda hop: regexp_replace(lower(hop.subject), '^.*[/:]', ''))
                AS enforced_chain
        FROM paired
        WHERE array_length(told_hops) > 0 AND array_length(enforced_hops) > 0 AND told_hops <> enforced_hops
    ) AS paired
    WHERE array_length(list_filter(told_chain, lambda name: NOT list_contains(enforced_chain, name))) > 0
        AND (
            array_length(list_filter(enforced_chain, lambda name: NOT list_contains(told_chain, name))) > 0
            -- A log may show the current actor only; one that shows more, or as many as the token
            -- was issued with, has not left out the rest.
            OR (NOT is_cut
                AND (array_length(enforced_chain) > 1 OR coalesce(array_length(enforced_chain) = issued_actors, false)))
        )
),
-- Outcomes of a call as a whole: what is still open, or failed later at the agent's side, is
-- no contradiction.
outcomes AS (
    SELECT
        tenant_id, match_key,
        bool_or(observer = 'agent_runtime' AND outcome = 'success') AS told_success,
        bool_or(observer = 'agent_runtime' AND outcome = 'denied') AS told_denied,
        bool_or(observer <> 'agent_runtime' AND outcome IN ('success', 'timeout', 'unknown')) AS seen_open,
        bool_or(observer <> 'agent_runtime' AND outcome = 'success') AS seen_success,
        bool_or(observer <> 'agent_runtime' AND outcome = 'denied') AS seen_denied,
        bool_or(observer <> 'agent_runtime' AND outcome = 'failure') AS seen_failure
    FROM observed
    WHERE phase <> 'pre' AND observer IN ('agent_runtime', 'gateway', 'resource_server', 'authz_server', 'cloud_audit', 'secret_store')
    GROUP BY tenant_id, match_key
),
outcomes_differ AS (
    SELECT
        paired.tenant_id, paired.match_key, paired.told_uid, paired.enforced_uid, 'outcome' AS field,
        CASE WHEN outcomes.told_success THEN 'success' ELSE 'denied' END AS said,
        CASE
            WHEN outcomes.told_success AND outcomes.seen_denied THEN 'denied'
            WHEN outcomes.told_success THEN 'failure'
            ELSE 'success'
        END AS seen
    FROM paired
    INNER JOIN outcomes ON paired.tenant_id = outcomes.tenant_id AND paired.match_key = outcomes.match_key
    WHERE (outcomes.told_success AND NOT outcomes.seen_open AND (outcomes.seen_denied OR outcomes.seen_failure))
        OR (outcomes.told_denied AND NOT outcomes.told_success AND outcomes.seen_success AND NOT outcomes.seen_denied)
),
differences AS (
    SELECT tenant_id, match_key, told_uid, enforced_uid, field, said, seen,
        CASE WHEN field = 'resource' THEN 2 ELSE 1 END AS weight
    FROM different
    UNION ALL
    SELECT tenant_id, match_key, told_uid, enforced_uid, field, said, seen, 1 AS weight FROM chains_differ
    UNION ALL
    SELECT tenant_id, match_key, told_uid, enforced_uid, field, said, seen, 3 AS weight FROM outcomes_differ
),
heaviest AS (
    SELECT tenant_id, match_key, min(weight) AS weight FROM differences GROUP BY tenant_id, match_key
),
placed AS (
    SELECT
        paired.*, difference.field, difference.said, difference.seen,
        CASE heaviest.weight WHEN 1 THEN 'identity' WHEN 2 THEN 'resource' ELSE 'outcome' END AS difference,
        row_number() OVER (
            PARTITION BY paired.tenant_id, paired.agent, paired.enforced_source, heaviest.weight
            ORDER BY paired.enforced_at, paired.told_uid, paired.enforced_uid, difference.field
        ) AS place
    FROM differences AS difference
    INNER JOIN heaviest ON difference.tenant_id = heaviest.tenant_id AND difference.match_key = heaviest.match_key
    INNER JOIN paired
        ON difference.tenant_id = paired.tenant_id AND difference.match_key = paired.match_key
        AND difference.told_uid = paired.told_uid AND difference.enforced_uid = paired.enforced_uid
)
SELECT
    tenant_id,
    agent,
    enforced_source,
    difference,
    agent AS entity,
    'What ' || agent || ' reports is not what ' || enforced_source || ' saw: ' || min(field) FILTER (WHERE place = 1)
        || ' ' || min(said) FILTER (WHERE place = 1) || ' against ' || min(seen) FILTER (WHERE place = 1) AS title,
    CASE difference WHEN 'identity' THEN 4 WHEN 'resource' THEN 3 ELSE 2 END AS severity,
    CAST(1 AS DOUBLE) AS confidence,
    max(action_class) FILTER (
        WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
    ) AS action_class,
    max(sensitivity) AS resource_sensitivity,
    min(environment) AS environment,
    max(observer) AS observer,
    list_sort(list_distinct(list(field))) AS fields,
    list_sort(list_distinct(list(field || ': ' || said || ' / ' || seen) FILTER (WHERE place <= $evidence_max)))
        AS said_and_seen,
    list_sort(list_distinct(list(told_source))) AS told_sources,
    list_sort(list_distinct(list(tool_name) FILTER (WHERE place <= $evidence_max))) AS tools,
    count(DISTINCT told_uid) AS calls,
    least(min(told_at), min(enforced_at)) AS first_seen,
    greatest(max(told_at), max(enforced_at)) AS last_seen,
    list_sort(list_distinct(list_concat(
        list(told_uid) FILTER (WHERE place <= $evidence_max), list(enforced_uid) FILTER (WHERE place <= $evidence_max)
    ))) AS event_uids
FROM placed
GROUP BY tenant_id, agent, enforced_source, difference
