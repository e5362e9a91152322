-- Records of a session's course, which say of no call and no delegation.
SELECT
    part,
    CASE r.action_type
        WHEN 'lifecycle' THEN 'lifecycle of a session'
        WHEN 'escalation' THEN 'escalation that names no call'
        ELSE 'error that names no call'
    END AS reason
FROM records
WHERE r.action_type IN ('lifecycle', 'escalation')
    OR (r.action_type = 'error' AND coalesce(plain_of(r.action_detail.tool_name), plain_of(r.action_detail.parent_call_id)) IS NULL)
