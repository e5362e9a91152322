-- Names that act, known or not.
SELECT (SELECT count(DISTINCT agent_id) FROM tool_calls) + (SELECT count(DISTINCT client_id) FROM token_events) AS examined
