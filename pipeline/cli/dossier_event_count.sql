WITH cited AS (SELECT DISTINCT unnest($uids::VARCHAR[]) AS event_uid),
present AS (
    SELECT event_uid, tenant_id FROM tool_calls
    WHERE event_uid IN (SELECT event_uid FROM cited)
    UNION
    SELECT event_uid, tenant_id FROM token_events
    WHERE event_uid IN (SELECT event_uid FROM cited)
    UNION
    SELECT event_uid, tenant_id FROM secret_events
    WHERE event_uid IN (SELECT event_uid FROM cited)
)
SELECT count(*) AS events FROM present WHERE tenant_id = $tenant_id
