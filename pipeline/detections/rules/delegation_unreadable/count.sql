-- Events that assert a delegation.
SELECT
    (SELECT count(*) FROM token_events WHERE act_malformed_reason IS NOT NULL OR act_truncated OR array_length(act_chain) > 0)
    + (SELECT count(*) FROM tool_calls WHERE act_malformed_reason IS NOT NULL OR act_truncated OR array_length(act_chain) > 0)
    AS examined
