-- Credentials that were made from another one, and agents that name another as parent.
SELECT
    (SELECT count(*) FROM hops WHERE hop_kind IN ('exchange', 'assume', 'delegate', 'assertion'))
    + (SELECT count(DISTINCT agent_id) FROM tool_calls WHERE parent_agent_id IS NOT NULL) AS examined
