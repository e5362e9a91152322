-- Ids that may be seen once.
SELECT
    (SELECT count(DISTINCT single_use_id) FROM tool_calls WHERE single_use_id IS NOT NULL)
    + (SELECT count(DISTINCT single_use_id) FROM token_events WHERE single_use_id IS NOT NULL) AS examined
