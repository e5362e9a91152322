-- Calls that may change or reveal something.
SELECT count(*) AS examined FROM tool_calls WHERE action_class <> 'read'
