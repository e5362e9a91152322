-- Records that name no time, agent or action; and a break at a record that would be skipped.
SELECT part, reason
FROM (
    SELECT
        part,
        CASE
            WHEN plain_of(r.record_id) IS NULL THEN 'record_id is missing'
            WHEN moment_of(r.timestamp) IS NULL THEN 'timestamp is missing or is no time'
            WHEN plain_of(r.agent_id) IS NULL THEN 'agent_id is missing'
            WHEN r.action_type IS NULL OR r.action_type NOT IN (
                'tool_call', 'tool_response', 'decision', 'delegation', 'escalation', 'error', 'lifecycle'
            ) THEN 'action_type is none of the draft''s'
            WHEN r.action_type = 'delegation' AND plain_of(r.action_detail.delegate_agent_id) IS NULL
                THEN 'action_detail.delegate_agent_id is missing'
            WHEN chain_verdict = 'broken' AND chain_verdict_reason <> 'it follows a broken record'
                AND (
                    r.action_type IN ('escalation', 'lifecycle')
                    OR (r.action_type = 'error' AND coalesce(plain_of(r.action_detail.tool_name), plain_of(r.action_detail.parent_call_id)) IS NULL)
                ) THEN 'the hash chain breaks at a record that gives no row: ' || chain_verdict_reason
        END AS reason
    FROM records
) AS judged
WHERE reason IS NOT NULL
