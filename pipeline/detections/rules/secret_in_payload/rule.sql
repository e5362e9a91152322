-- A credential travelled in the arguments or the result of a tool call.
--
-- One row per agent, server and tool.  Known by the verdict of a scanner at the edge, or
-- because the digest of a payload is that of a known token or secret; then it can be told
-- whether somebody else used it afterwards.  Values are never stored, so never shown.
WITH digests AS (
    SELECT
        alias.tenant_id, alias.credential_key, CAST(NULL AS VARCHAR) AS secret_id,
        replace(lower(alias.id), 'sha256:', '') AS digest
    FROM credential_aliases AS alias
    WHERE alias.kind IN ('token_sha256', 'ath')
    UNION ALL
    SELECT
        tenant_id, CAST(NULL AS VARCHAR) AS credential_key, secret_id,
        replace(lower(fingerprint), 'sha256:', '') AS digest
    FROM secrets
    WHERE fingerprint IS NOT NULL
),
payloads AS (
    SELECT tenant_id, event_uid, 'arguments' AS direction, replace(lower(args_hash), 'sha256:', '') AS digest
    FROM calls WHERE args_hash IS NOT NULL
    UNION ALL
    SELECT tenant_id, event_uid, 'result' AS direction, replace(lower(result_hash), 'sha256:', '') AS digest
    FROM calls WHERE result_hash IS NOT NULL
),
recognised AS (
    SELECT payloads.tenant_id, payloads.event_uid, payloads.direction, digests.credential_key, digests.secret_id
    FROM payloads
    INNER JOIN digests ON payloads.tenant_id = digests.tenant_id AND payloads.digest = digests.digest
),
leaking AS (
    SELECT
        call.tenant_id, call.event_uid, call.event_time, call.source, call.observer, call.environment,
        call.agent_id, call.tool_name, call.tool_server, call.credential_key AS presented_key,
        call.action_class, call.resource_sensitivity, call.tags,
        recognised.direction, recognised.credential_key AS leaked_key, recognised.secret_id AS leaked_secret
    FROM calls AS call
    LEFT JOIN recognised
        ON call.tenant_id = recognised.tenant_id AND call.event_uid = recognised.event_uid
    WHERE (call.secret_in_payload OR recognised.event_uid IS NOT NULL)
        -- What was refused did not travel.
        AND call.outcome <> 'denied'
        -- Keys that were made to be found.
        AND array_length(list_filter(
            coalesce(call.tags, CAST([] AS VARCHAR[])), lambda tag: list_contains($test_tags, lower(tag))
        )) = 0
),
used_elsewhere AS (
    SELECT
        leaking.tenant_id, leaking.event_uid AS leak_uid,
        min(later.agent_id) AS used_by,
        min(later.event_time) AS used_at,
        list_slice(list_sort(list_distinct(list(later.event_uid))), 1, $evidence_max) AS event_uids
    FROM leaking
    INNER JOIN credentials AS leaked
        ON leaking.tenant_id = leaked.tenant_id AND leaking.leaked_key = leaked.credential_key
    INNER JOIN calls AS later
        ON leaking.tenant_id = later.tenant_id AND leaking.leaked_key = later.credential_key
    WHERE later.event_time > leaking.event_time AND later.outcome = 'success'
        AND later.link_method IN ('T1', 'T2') AND later.link_confidence >= $link_confidence_min
        -- Its own holder goes on using it.
        AND later.agent_id <> coalesce(leaked.actor_id, leaked.client_id, leaking.agent_id)
        AND later.agent_id <> coalesce(leaked.client_id, '')
    GROUP BY leaking.tenant_id, leaking.event_uid
),
secret_elsewhere AS (
    SELECT
        leaking.tenant_id, leaking.event_uid AS leak_uid,
        min(later.accessed_by_id) AS used_by,
        min(later.event_time) AS used_at,
        list_slice(list_sort(list_distinct(list(later.event_uid))), 1, $evidence_max) AS event_uids
    FROM leaking
    INNER JOIN secret_events AS later
        ON leaking.tenant_id = later.tenant_id AND leaking.leaked_secret = later.secret_id
    WHERE later.op = 'use' AND later.event_time > leaking.event_time AND later.accessed_by_id IS NOT NULL
        AND later.accessed_by_id <> coalesce(later.bound_identity_id, leaking.agent_id)
    GROUP BY leaking.tenant_id, leaking.event_uid
),
placed AS (
    SELECT
        leaking.*, coalesce(elsewhere.used_by, with_secret.used_by) AS used_by,
        list_concat(
            coalesce(elsewhere.event_uids, CAST([] AS VARCHAR[])), coalesce(with_secret.event_uids, CAST([] AS VARCHAR[]))
        ) AS later_uids,
        row_number() OVER (
            PARTITION BY leaking.tenant_id, leaking.agent_id, coalesce(leaking.tool_server, ''), leaking.tool_name
            ORDER BY leaking.event_time, leaking.event_uid
        ) AS place
    FROM leaking
    LEFT JOIN used_elsewhere AS elsewhere
        ON leaking.tenant_id = elsewhere.tenant_id AND leaking.event_uid = elsewhere.leak_uid
    LEFT JOIN secret_elsewhere AS with_secret
        ON leaking.tenant_id = with_secret.tenant_id AND leaking.event_uid = with_secret.leak_uid
)
SELECT
    tenant_id,
    agent_id,
    coalesce(tool_server, '') AS tool_server,
    tool_name,
    agent_id AS entity,
    'A credential travelled in the payload of ' || tool_name || ' called by ' || agent_id
        || CASE WHEN count(used_by) > 0 THEN ', and ' || min(used_by) || ' used it afterwards' ELSE '' END AS title,
    CASE WHEN count(used_by) > 0 THEN 5 ELSE 4 END AS severity,
    min(presented_key) FILTER (WHERE place = 1) AS credential_key,
    CAST(1 AS DOUBLE) AS confidence,
    max(action_class) FILTER (
        WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
    ) AS action_class,
    max(resource_sensitivity) AS resource_sensitivity,
    min(environment) AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    CASE WHEN count(direction) > 0 THEN 'known digest' ELSE 'scanner' END AS told_by,
    list_sort(list_distinct(list(direction) FILTER (WHERE direction IS NOT NULL))) AS directions,
    list_sort(list_distinct(list(coalesce(leaked_secret, leaked_key)) FILTER (
        WHERE coalesce(leaked_secret, leaked_key) IS NOT NULL AND place <= $evidence_max
    ))) AS leaked,
    list_sort(list_distinct(list(used_by) FILTER (WHERE used_by IS NOT NULL))) AS used_by,
    count(DISTINCT event_uid) AS calls,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    list_sort(list_distinct(list_concat(
        list(event_uid) FILTER (WHERE place <= $evidence_max),
        flatten(list(later_uids) FILTER (WHERE place <= $evidence_max))
    ))) AS event_uids
FROM placed
GROUP BY tenant_id, agent_id, coalesce(tool_server, ''), tool_name
