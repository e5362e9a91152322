-- Calls that name the program they came from.
SELECT count(*) AS examined FROM tool_calls WHERE user_agent IS NOT NULL
