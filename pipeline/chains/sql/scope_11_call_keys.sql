-- The same for observations of tool calls.
CREATE OR REPLACE TEMP TABLE call_keys AS
WITH told AS (
    SELECT *, credential_id IS NULL AND coalesce(tool_protocol, 'unknown') NOT IN ('mcp_stdio', 'function') AS is_needy
    FROM tool_calls
)
SELECT event_uid, unnest([
        CASE WHEN credential_id IS NOT NULL THEN hash(tenant_id, credential_kind, credential_id) END,
        CASE WHEN length(call_id) >= 16 THEN hash(tenant_id, 'call', call_id)
            WHEN call_id IS NOT NULL THEN hash(tenant_id, 'call', call_id, coalesce(trace_id, session_id, concat(source, chr(31), agent_id))) END
    ]) AS key, false AS is_weak, is_needy
FROM told
UNION ALL
SELECT event_uid, unnest([
        CASE WHEN txn_id IS NOT NULL THEN hash(tenant_id, 'txn', txn_id) END,
        CASE WHEN trace_id IS NOT NULL THEN hash(tenant_id, 'trace', trace_id) END,
        CASE WHEN is_needy AND session_id IS NOT NULL THEN hash(tenant_id, 'session', session_id) END,
        CASE WHEN is_needy AND task_id IS NOT NULL THEN hash(tenant_id, 'task', task_id) END,
        CASE WHEN is_needy AND cnf_thumbprint IS NOT NULL THEN hash(tenant_id, 'cnf', cnf_thumbprint) END,
        CASE WHEN is_needy AND subject_id IS NOT NULL THEN hash(tenant_id, 'subject', subject_id) END,
        CASE WHEN is_needy THEN hash(tenant_id, 'agent', agent_id) END,
        CASE WHEN is_needy AND actor_id IS NOT NULL THEN hash(tenant_id, 'agent', actor_id) END
    ]), true, is_needy
FROM told
