-- Somebody switched off, deleted or narrowed what the detections read: a log, a trail, an audit device.
--
-- One row per actor, operation and log.  Names are compared without case and punctuation, as
-- every tool wraps the same control under a name of its own.  A change with an approval that
-- was valid at the time is planned; a refused one is the control working.
WITH acts AS (
    SELECT
        tenant_id, event_uid, event_time, source, observer, environment, agent_id, agent_issuer, actor_id,
        subject_id, tool_name, operation, tool_server, tool_protocol, resource, credential_key, confidence,
        depth, actor_path, approval_id, approval_expires_at, act_chain, action_class,
        lower(concat_ws(' ', tool_name, operation)) AS said,
        lower(concat_ws(' ', tool_name, operation, tool_server, resource)) AS told
    FROM calls
    WHERE outcome = 'success' AND coalesce(decision_effect, 'none') <> 'deny'
        AND (
            approval_id IS NULL OR coalesce(approval_expires_at < event_time, false)
            -- An approval of other arguments is one of another change.
            OR coalesce(approval_args_hash <> args_hash, false)
        )
),
-- Most calls name no log at all; what is left is small.
about_logs AS (
    SELECT
        *,
        regexp_replace(told, '[^a-z0-9]', '', 'g') AS squeezed,
        regexp_replace(said, '[^a-z0-9]', '', 'g') AS squeezed_said,
        coalesce(tool_protocol = 'cloud_api', false) OR coalesce(action_class = 'admin_iam', false)
            OR regexp_matches(told, '(^|[^a-z])(aws|arn|iam)([^a-z]|$)|amazon|cloud[ _-]?trail|audit|(^|[^a-z])log')
            -- The spelling of the clouds' own calls.
            OR regexp_matches(concat_ws(' ', tool_name, operation), '(Delete|Update)Trail') AS is_clouds
    FROM acts
    WHERE regexp_matches(
        told, 'log|trail|audit|selector|recorder|diagnostic|detector|eventdatastore|event_data_store|event-data-store|eventtypes|event_types|sink|telemetry|trace[ _-]?export'
    )
),
judged AS (
    SELECT
        about_logs.*,
        -- Calls of the clouds that have this one meaning.
        array_length(list_filter(
            $control_names,
            -- A trail may be one to walk on, unless the call looks like a cloud's.
            lambda name: contains(about_logs.squeezed_said, name)
                AND (about_logs.is_clouds OR NOT list_contains($homonyms, name))
        )) > 0 AS is_named,
        regexp_matches(said, '(^|[^a-z])(get|list|describe|lookup|read|show|view|search|query|download|export|create|enable|start)([^a-z]|$)')
            AND NOT regexp_matches(said, 'disable|delete|deactivate|remove|stop|suspend|detach|unsubscribe')
            AS is_harmless,
        regexp_matches(said, 'disable|delete|deactivate|remove|stop|suspend|detach|destroy|purge|drop|turn[_ .-]?off|disconnect|exclude')
            AS takes_away,
        regexp_matches(said, 'update|patch|put|replace|edit|modify|write|set|apply|exclude|configure|tune') AS changes,
        -- Where records are made or carried, not the records of some application.
        regexp_matches(
            told, 'sys/audit|audit[ _./:-]?(device|sink|backend|polic(y|ies)|trail|stream|config|webhook|export)|audit[ _./:-]?logg?(ing|s)?([^a-z]|$)'
            || '|(^|[^a-z]|sys)log[ _./:-]?(stream|sink|forward|export|drain|shipp|archiv|router|group)|flow[ _-]?log|diagnostic[ _-]?setting'
            || '|cloud[ _-]?trail|event[ _-]?data[ _-]?store|trace[ _-]?export|telemetry[ _-]?export|auditsink'
        ) OR regexp_matches(squeezed_said, 'vaultaudit|auditdisable|disableaudit|stoplogging|disablelogging|loggingdisable')
            AS is_log_control,
        regexp_matches(
            told, 'sys/audit|audit[ _./:-]?(polic(y|ies)|sink|backend|config|webhook)|sys/config/auditing|exclude[ _-]?event[ _-]?types|audit[ _.-]?exclude'
        ) OR contains(squeezed, 'excludeeventtypes') AS is_log_policy
    FROM about_logs
),
weakened AS (
    SELECT
        judged.*,
        coalesce(nullif(operation, ''), tool_name) AS operation_name,
        coalesce(resource, tool_server, tool_name) AS control
    FROM judged
    WHERE is_named
        OR (takes_away AND is_log_control AND NOT is_harmless AND coalesce(action_class, 'write') <> 'read')
        OR (
            changes AND is_log_policy AND NOT is_harmless AND coalesce(action_class, 'write') <> 'read'
            -- A document about the audit policy is not the audit policy.
            AND (
                tool_protocol IN ('k8s', 'cloud_api') OR coalesce(action_class = 'admin_iam', false)
                OR regexp_matches(said, 'audit|kube|vault|gateway|policy') OR contains(told, 'exclude')
            )
        )
),
agents AS (
    SELECT DISTINCT names.name
    FROM reg_names AS names
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
    WHERE identity.kind IN ('agent', 'agent_user')
),
placed AS (
    SELECT
        weakened.*,
        coalesce(weakened.depth > 0, false) OR array_length(coalesce(weakened.actor_path, CAST([] AS VARCHAR[]))) > 1
            OR array_length(coalesce(weakened.act_chain, CAST([] AS STRUCT(issuer VARCHAR, subject VARCHAR)[]))) > 0
            OR agents.name IS NOT NULL AS is_agent,
        row_number() OVER (
            PARTITION BY weakened.tenant_id, weakened.agent_id, weakened.operation_name, weakened.control
            ORDER BY weakened.event_time, weakened.event_uid
        ) AS place
    FROM weakened
    LEFT JOIN agents ON weakened.agent_id = agents.name
)
SELECT
    tenant_id,
    agent_id,
    operation_name AS operation,
    control,
    agent_id AS entity,
    agent_id || ' weakened logging: ' || operation_name || ' on ' || control AS title,
    CASE WHEN bool_or(is_agent) THEN 5 ELSE 4 END AS severity,
    min(credential_key) FILTER (WHERE place = 1) AS credential_key,
    -- What was done is certain; who stands behind it is the chain's question.
    CAST(1 AS DOUBLE) AS confidence,
    min(environment) AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    bool_or(is_agent) AS by_an_agent,
    min(subject_id) AS subject,
    list_sort(list_distinct(list(tool_name) FILTER (WHERE place <= $evidence_max))) AS tools,
    list_sort(list_distinct(list(source) FILTER (WHERE place <= $evidence_max))) AS sources,
    bool_or(coalesce(approval_expires_at < event_time, false)) AS with_expired_approval,
    count(*) AS calls,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    list_sort(list(event_uid) FILTER (WHERE place <= $evidence_max)) AS event_uids
FROM placed
GROUP BY tenant_id, agent_id, operation_name, control
