-- One agent was denied the same tool several times.
--
-- One row per agent and tool, which rule.toml names as the identity.
SELECT
    tenant_id,
    agent_id,
    tool_name,
    agent_id AS entity,
    agent_id || ' was denied ' || tool_name AS title,
    count(*) AS denied,
    max(resource_sensitivity) AS resource_sensitivity,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    list(event_uid ORDER BY event_time, event_uid) AS event_uids
FROM tool_calls
WHERE outcome = 'denied'
GROUP BY tenant_id, agent_id, tool_name
HAVING count(*) >= $denied_min
