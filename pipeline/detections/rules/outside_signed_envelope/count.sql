-- Calls.
SELECT count(*) AS examined FROM tool_calls
