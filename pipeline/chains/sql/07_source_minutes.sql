-- Minutes in which a source spoke, with when it spoke next.
CREATE OR REPLACE TEMP TABLE source_minutes AS
WITH minutes AS (
    SELECT tenant_id, source, minute, sum(events) AS events,
        min(first_event_time) AS first_event_time, max(last_event_time) AS last_event_time
    FROM heartbeats
    GROUP BY tenant_id, source, minute
)
SELECT *, lead(first_event_time) OVER (PARTITION BY tenant_id, source ORDER BY minute) AS next_event_time
FROM minutes
