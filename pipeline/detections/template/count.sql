-- Denied calls are what this rule examines.
SELECT count(*) AS examined FROM tool_calls WHERE outcome = 'denied'
