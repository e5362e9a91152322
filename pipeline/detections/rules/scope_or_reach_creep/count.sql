-- Agents that called.
SELECT count(*) AS examined FROM (SELECT DISTINCT tenant_id, agent_id FROM tool_calls) AS agents
