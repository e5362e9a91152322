-- One row per call: what all its observations together need.
CREATE OR REPLACE TEMP TABLE call_facts AS
SELECT
    call_key, any_value(tenant_id) AS tenant_id, count(*)::INTEGER AS observations,
    list_sort(list_distinct(flatten(list(required_scopes)))) AS required_scopes,
    -- A point that enforces may not know the agent: then it is no good as the call's one row.
    arg_min(event_uid, (CASE WHEN phase = 'pre' THEN 1 ELSE 0 END, agent_id = 'unknown', -evidence_rank, credential_id IS NULL, event_time, event_uid))
        AS primary_uid,
    min(event_time) AS event_time, bool_or(outcome = 'success') AS succeeded
FROM keyed_obs
GROUP BY call_key
