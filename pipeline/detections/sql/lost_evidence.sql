-- Findings whose evidence has left the lake by retention: nothing refutes those.
WITH wanted AS (
    SELECT finding_id, unnest(event_uids) AS event_uid FROM gone
),
there AS (
    SELECT event_uid FROM tool_calls
    WHERE event_uid IN (SELECT event_uid FROM wanted)
    UNION ALL
    SELECT event_uid FROM token_events
    WHERE event_uid IN (SELECT event_uid FROM wanted)
    UNION ALL
    SELECT event_uid FROM secret_events
    WHERE event_uid IN (SELECT event_uid FROM wanted)
)
SELECT DISTINCT finding_id FROM wanted ANTI JOIN there USING (event_uid)
