-- Calls, their answers, and decisions; an error where it names the call that failed.
--
-- An answer without a tool's name takes that of its call, where the call is in the batch.
-- A record of before the execution tells that the call was let through, not how it ended.
WITH calls AS (
    SELECT r.session_id AS session_id, r.record_id AS record_id, min(coalesce(plain_of(r.action_detail.tool_name), plain_of(r.action_detail.tool))) AS tool_name
    FROM records
    WHERE r.action_type = 'tool_call'
    GROUP BY r.session_id, r.record_id
)
SELECT
    part,
    sha256 AS uid_of,
    chain_verdict = 'broken' OR absent IS NOT NULL AS is_partial,
    plain_of(r.record_id) AS event_id,
    concat_ws(':', 'aat', $instance) AS source,
    moment_of(r.timestamp) AS event_time,
    'agent_runtime' AS observer,
    $tenant_id AS tenant_id,
    plain_of(r.session_id) AS session_id,
    coalesce(
        plain_of(r.action_detail.tool_name),
        plain_of(r.action_detail.tool),
        calls.tool_name,
        CASE WHEN r.action_type = 'decision' THEN concat_ws(' ', 'decision', plain_of(r.action_detail.decision_type)) END,
        'unknown'
    ) AS tool_name,
    plain_of(r.action_detail.tool_server) AS tool_server,
    CASE WHEN r.action_type = 'decision' THEN plain_of(r.action_detail.decision_type) END AS operation,
    plain_of(r.action_detail.resource) AS resource,
    CASE
        WHEN r.outcome IN ('failure', 'timeout', 'denied') THEN r.outcome
        WHEN r.outcome = 'success' AND r.record_phase IS DISTINCT FROM 'pre_execution' THEN 'success'
        ELSE 'unknown'
    END AS outcome,
    CASE
        WHEN r.outcome = 'denied' THEN 'deny'
        WHEN r.outcome = 'success' AND r.record_phase = 'pre_execution' AND r.action_type = 'tool_call' THEN 'allow'
    END AS decision_effect,
    coalesce(plain_of(r.action_detail.parent_call_id), plain_of(r.action_detail.meta.tool_use_id), plain_of(r.record_id)) AS call_id,
    CASE
        -- Older drafts have no phase, and some writers say `concurrent` of everything.
        WHEN r.record_phase = 'post_execution' OR r.action_type IN ('tool_response', 'error') THEN 'post'
        WHEN r.record_phase = 'pre_execution' THEN 'pre'
        ELSE 'single'
    END AS phase,
    plain_of(r.agent_id) AS agent_id,
    plain_of(r.agent_version) AS agent_version,
    plain_of(r.agent_id) AS actor_id,
    'none' AS actor_convention,
    CASE WHEN r.action_type IN ('tool_call', 'decision') THEN coalesce(
        sha256_of(r.action_detail.parameters_hash), sha256_of(r.action_detail.meta.input.sha256), detail_hash
    ) END AS args_hash,
    CASE
        WHEN r.action_type = 'tool_response' THEN coalesce(sha256_of(r.action_detail.response_hash), detail_hash)
        WHEN r.record_phase = 'post_execution' THEN sha256_of(r.action_detail.meta.response.sha256)
    END AS result_hash,
    ext_of(
        ['action_type', 'outcome', 'record_phase', 'trust_level', 'parent_record_id', 'prev_hash', 'record_hash',
            'chain_verdict', 'chain_verdict_reason', 'missing_fields', 'signature', 'sig_alg', 'signer_kid',
            'recording_component', 'deny_reasons', 'error_code', 'error_category'],
        list_transform([r.action_type, r.outcome, r.record_phase, r.trust_level, r.parent_record_id, r.prev_hash, record_hash,
            chain_verdict, chain_verdict_reason, absent, CASE WHEN r.signature IS NULL THEN 'none' ELSE 'unchecked' END,
            r.sig_alg, r.signer_kid, r.recording_component, array_to_string(list_filter(r.deny_reasons, lambda one: regexp_full_match(one, '[A-Za-z0-9_]{1,64}')), ' '),
            CASE WHEN regexp_full_match(r.action_detail.error_code, '[A-Za-z0-9_.:-]{1,64}') THEN r.action_detail.error_code END,
            CASE WHEN regexp_full_match(r.action_detail.error_category, '[A-Za-z0-9_]{1,64}') THEN r.action_detail.error_category END], lambda one: plain_of(one))
    ) AS ext
FROM records
LEFT JOIN calls ON r.session_id = calls.session_id AND r.action_detail.parent_call_id = calls.record_id
WHERE plain_of(r.record_id) IS NOT NULL AND plain_of(r.agent_id) IS NOT NULL AND moment_of(r.timestamp) IS NOT NULL
    AND (
        r.action_type IN ('tool_call', 'tool_response', 'decision')
        OR (r.action_type = 'error' AND coalesce(plain_of(r.action_detail.tool_name), plain_of(r.action_detail.parent_call_id)) IS NOT NULL)
    )
