WITH cited AS (SELECT DISTINCT unnest($uids::VARCHAR[]) AS event_uid),
shown AS (
    SELECT event_uid, event_time, source, tenant_id, outcome,
        'call ' || tool_name || coalesce(' on ' || resource, '') AS what,
        coalesce(agent_id, actor_id, '?') || coalesce(' for ' || subject_id, '') AS who
    FROM tool_calls
    WHERE event_uid IN (SELECT event_uid FROM cited)
    UNION ALL
    SELECT event_uid, event_time, source, tenant_id, outcome,
        op || ' ' || credential_kind || ' ' || coalesce(credential_id, '?') AS what,
        coalesce(actor_id, client_id, '?') || coalesce(' for ' || subject_id, '') AS who
    FROM token_events
    WHERE event_uid IN (SELECT event_uid FROM cited)
    UNION ALL
    SELECT event_uid, event_time, source, tenant_id, NULL AS outcome,
        op || ' ' || secret_kind || ' ' || coalesce(secret_id, '?') AS what,
        coalesce(accessed_by_id, bound_identity_id) AS who
    FROM secret_events
    WHERE event_uid IN (SELECT event_uid FROM cited)
)
SELECT DISTINCT event_time, source, what, who, outcome, event_uid
FROM shown
WHERE tenant_id = $tenant_id
ORDER BY event_time, event_uid
LIMIT $limit
