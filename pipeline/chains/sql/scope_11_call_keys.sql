-- The same for observations of tool calls.  What a call with a credential says of subject and
-- agent matters, too: it may be all that is known of that credential.
CREATE OR REPLACE TEMP TABLE call_keys AS
WITH told AS (
    SELECT event.*, credential_id IS NULL AND coalesce(tool_protocol, 'unknown') NOT IN ('mcp_stdio', 'function') AS is_needy,
        coalesce(exact_name.identity_id, any_name.identity_id, subject_id) AS subject_identity
    FROM tool_calls AS event
    LEFT JOIN identity_lookup AS exact_name ON exact_name.subject = subject_id AND exact_name.issuer = subject_issuer
    LEFT JOIN identity_lookup AS any_name ON any_name.subject = subject_id AND any_name.issuer = '*'
)
SELECT event_uid, hash(tenant_id, credential_kind, credential_id) AS key, 'id' AS strength, is_needy
FROM told WHERE credential_id IS NOT NULL
UNION ALL
SELECT event_uid, CASE WHEN length(call_id) >= 16 THEN hash(tenant_id, 'call', call_id)
    ELSE hash(tenant_id, 'call', call_id, coalesce(trace_id, session_id, concat(source, chr(31), agent_id))) END,
    'strong', is_needy
FROM told WHERE call_id IS NOT NULL
UNION ALL
SELECT event_uid, unnest([
        CASE WHEN txn_id IS NOT NULL THEN hash(tenant_id, 'txn', txn_id) END,
        CASE WHEN trace_id IS NOT NULL THEN hash(tenant_id, 'trace', trace_id) END,
        CASE WHEN is_needy AND session_id IS NOT NULL THEN hash(tenant_id, 'session', session_id) END,
        CASE WHEN is_needy AND task_id IS NOT NULL THEN hash(tenant_id, 'task', task_id) END,
        CASE WHEN is_needy AND cnf_thumbprint IS NOT NULL THEN hash(tenant_id, 'cnf', cnf_thumbprint) END,
        CASE WHEN subject_identity IS NOT NULL THEN hash(tenant_id, 'subject', subject_identity) END
    ]), 'weak', is_needy
FROM told
UNION ALL
SELECT named.event_uid, hash(tenant_id, 'agent', coalesce(known.identity_id, named.name)), 'weak', is_needy
FROM (
    SELECT event_uid, tenant_id, unnest([agent_id, actor_id, subject_id]) AS name, is_needy FROM told
) AS named
LEFT JOIN agent_lookup AS known ON known.name = named.name
WHERE named.name IS NOT NULL
