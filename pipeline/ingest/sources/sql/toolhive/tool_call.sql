-- One audit event of the gateway, or of the workflow engine behind it.
WITH events AS (
    SELECT
        part, r, sha256, arguments_hash, request_hash, response_hash,
        text_of(r.component) AS component,
        -- The MCP method; HTTP's own verbs, which stand there where MCP was not parsed, are capitals.
        coalesce(CASE WHEN NOT regexp_full_match(r.target.method, '[A-Z]+') THEN text_of(r.target.method) END, CASE r.type
            WHEN 'mcp_tool_call' THEN 'tools/call'
            WHEN 'mcp_tools_list' THEN 'tools/list'
            WHEN 'mcp_resource_read' THEN 'resources/read'
            WHEN 'mcp_resources_list' THEN 'resources/list'
            WHEN 'mcp_prompt_get' THEN 'prompts/get'
            WHEN 'mcp_prompts_list' THEN 'prompts/list'
            WHEN 'mcp_initialize' THEN 'initialize'
            WHEN 'mcp_ping' THEN 'ping'
            WHEN 'mcp_logging' THEN 'logging/setLevel'
            WHEN 'mcp_completion' THEN 'completion/complete'
            WHEN 'mcp_roots_list_changed' THEN 'notifications/roots/list_changed'
        END) AS method,
        starts_with(r.type, 'vmcp_workflow_step_') AS is_step,
        starts_with(r.type, 'vmcp_workflow_') AS is_workflow,
        -- PR #6107, then the spellings before it.
        coalesce(r.delegation, r.delegationChain, r.delegation_chain) AS delegation
    FROM records
    WHERE r.type IS DISTINCT FROM 'vmcp_workflow_step_skipped'
),
told AS (
    SELECT
        part, delegation,
        list_transform(
            TRY_CAST(CASE json_type(delegation)
                WHEN 'ARRAY' THEN delegation
                ELSE coalesce(delegation -> '$.chain', delegation -> '$.actors')
            END AS JSON[]),
            lambda hop: {
                'issuer': CASE
                    WHEN json_type(hop, '$.iss') = 'VARCHAR' THEN hop ->> '$.iss'
                    WHEN json_type(hop, '$.act_claims.iss') = 'VARCHAR' THEN hop ->> '$.act_claims.iss'
                END,
                'subject': CASE WHEN json_type(hop, '$.sub') = 'VARCHAR' THEN text_of(hop ->> '$.sub') END
            }
        ) AS hops
    FROM events
    WHERE delegation IS NOT NULL AND json_type(delegation) <> 'NULL'
),
chains AS (
    SELECT
        part,
        -- A hop without a name cannot stand in the chain, and what lies behind it would move up.
        list_slice(hops, 1, coalesce(
            list_position(list_transform(hops, lambda hop: hop.subject IS NULL), true) - 1, len(hops)
        )) AS named,
        len(hops) AS told_hops,
        json_type(delegation) IN ('OBJECT', 'ARRAY') AS is_readable,
        coalesce(TRY_CAST(delegation ->> '$.truncated' AS BOOLEAN), false) AS truncated,
        coalesce(TRY_CAST(delegation ->> '$.malformed' AS BOOLEAN), false) AS malformed,
        coalesce(delegation ->> '$.malformedReason', delegation ->> '$.malformed_reason') AS malformed_reason,
        coalesce(delegation ->> '$.omitted', delegation ->> '$.dropped_count', delegation ->> '$.droppedCount') AS omitted
    FROM told
)
SELECT
    part,
    coalesce(text_of(r.audit_id), text_of(r.metadata.auditId), text_of(r.metadata.audit_id), sha256) AS event_id,
    concat_ws(':', 'stacklok.toolhive', nullif(concat_ws('/', $instance, component), '')) AS source,
    coalesce(moment_of(r.logged_at), moment_of(r.loggedAt), moment_of(r.time)) AS event_time,
    'gateway' AS observer,
    $tenant_id AS tenant_id,
    CASE WHEN regexp_full_match(lower(trim(r.trace_id)), '[0-9a-f]{32}') THEN lower(trim(r.trace_id)) END AS trace_id,
    CASE WHEN regexp_full_match(lower(trim(r.span_id)), '[0-9a-f]{16}') THEN lower(trim(r.span_id)) END AS span_id,
    text_of(r.source.extra.session_id) AS session_id,
    CASE
        WHEN r.type = 'mcp_tool_call' THEN coalesce(text_of(r.target.name), text_of(r.target.resource_id), method)
        WHEN is_step THEN coalesce(text_of(r.target.step_id), r.type)
        WHEN is_workflow THEN coalesce(text_of(r.target.workflow_name), r.type)
        ELSE coalesce(method, text_of(r.type))
    END AS tool_name,
    CASE
        WHEN is_workflow THEN text_of(r.target.tool_name)
        ELSE coalesce(method, nullif(concat_ws(' ', r.target.method, r.target.endpoint), ''))
    END AS operation,
    CASE WHEN r.type <> 'mcp_tool_call' THEN coalesce(text_of(r.target.uri), text_of(r.target.name), text_of(r.target.resource_id)) END AS resource,
    CASE WHEN method IN ('tools/list', 'resources/list', 'resources/read', 'prompts/list', 'prompts/get') THEN 'read' END AS action_class,
    coalesce(text_of(r.metadata.extra.backend_name), CASE WHEN component NOT IN ('toolhive-api', 'vmcp-composer') THEN component END) AS tool_server,
    CASE
        WHEN starts_with(r.type, 'mcp_') OR r.type = 'sse_connection' THEN 'mcp_http'
        WHEN r.type = 'http_request' THEN 'http'
    END AS tool_protocol,
    CASE
        -- That something began does not say how it ended.
        WHEN r.type IN ('vmcp_workflow_started', 'vmcp_workflow_step_started') THEN 'unknown'
        WHEN r.type = 'vmcp_workflow_timed_out' THEN 'timeout'
        WHEN r.outcome IN ('success', 'failure', 'denied') THEN r.outcome
        WHEN r.outcome IN ('error', 'application_error') THEN 'failure'
        ELSE 'unknown'
    END AS outcome,
    CASE WHEN r.outcome = 'denied' THEN 'deny' END AS decision_effect,
    CASE
        WHEN is_step THEN r.target.workflow_id || '/' || r.target.step_id
        WHEN is_workflow THEN text_of(r.target.workflow_id)
        ELSE text_of(r.source.extra.request_id)
    END AS call_id,
    CASE
        WHEN r.type IN ('vmcp_workflow_started', 'vmcp_workflow_step_started') THEN 'pre'
        WHEN is_workflow THEN 'post'
        ELSE 'single'
    END AS phase,
    -- Where the token says that somebody else acts, and not readably who, it is not the subject.
    coalesce(
        chains.named[1].subject,
        CASE WHEN chains.part IS NULL THEN coalesce(text_of(r.subjects.client_name), text_of(r.subjects.user_id), text_of(r.subjects.user)) END,
        'unknown'
    ) AS agent_id,
    chains.named[1].issuer AS agent_issuer,
    CASE WHEN chains.part IS NULL AND text_of(r.subjects.client_name) IS NOT NULL THEN text_of(r.subjects.client_version) END AS agent_version,
    coalesce(text_of(r.subjects.user_id), CASE WHEN r.subjects.user <> 'anonymous' THEN text_of(r.subjects.user) END) AS subject_id,
    chains.named[1].subject AS actor_id,
    chains.named[1].issuer AS actor_issuer,
    CASE WHEN chains.part IS NOT NULL THEN 'act' END AS actor_convention,
    coalesce(chains.named, []) AS act_chain,
    coalesce(chains.truncated, false) AS act_truncated,
    CASE
        WHEN chains.malformed THEN coalesce(text_of(chains.malformed_reason), 'malformed')
        WHEN NOT chains.is_readable THEN 'delegation_not_object'
        WHEN chains.part IS NOT NULL AND chains.told_hops IS NULL THEN 'chain_not_array'
        WHEN len(chains.named) < chains.told_hops THEN 'sub_missing'
    END AS act_malformed_reason,
    CASE WHEN r.source.type = 'network' THEN text_of(r.source.value) END AS src_ip,
    coalesce(text_of(r.source.extra.user_agent), text_of(r.metadata.extra.user_agent)) AS user_agent,
    coalesce(arguments_hash, request_hash) AS args_hash,
    response_hash AS result_hash,
    coalesce(len(chains.named) < chains.told_hops, false) AS is_partial,
    ext_of(
        ['type', 'outcome', 'component', 'user', 'client_name', 'client_version', 'endpoint', 'transport', 'duration_ms',
            'response_size_bytes', 'jsonrpc_error_code', 'mcp_version', 'workflow_id', 'step_type', 'retry_count',
            'step_count', 'act_omitted'],
        [r.type, r.outcome, component, r.subjects.user, r.subjects.client_name, r.subjects.client_version, r.target.endpoint,
            coalesce(r.metadata.extra.transport, r.metadata.transport),
            coalesce(r.metadata.extra.duration_ms, r.metadata.duration_ms),
            r.metadata.extra.response_size_bytes, r.metadata.extra.jsonrpc_error_code, r.metadata.extra.mcp_version,
            r.target.workflow_id, r.target.step_type, r.metadata.extra.retry_count, r.metadata.extra.step_count, chains.omitted]
    ) AS ext
FROM events
LEFT JOIN chains USING (part)
