-- Up to when each source is complete.  A file is closed where it ends; a stream lags by its
-- lateness, behind its slowest partition that is still active; a stream from which nothing
-- arrived for an hour has nothing in flight.
CREATE OR REPLACE TEMP TABLE watermarks_now AS
WITH partitions AS (
    SELECT tenant_id, source, kafka_topic, kafka_partition,
        starts_with(kafka_topic, 'file:') AS is_file,
        min(observer) AS observer, max(lateness_s) AS lateness_s,
        bool_or(has_tool_calls) AS has_tool_calls, bool_or(has_token_events) AS has_token_events,
        bool_or(has_secret_events) AS has_secret_events,
        min(first_event_time) AS first_event_time, max(last_event_time) AS last_event_time,
        max(last_ingest_time) AS last_ingest_time
    FROM heartbeats
    GROUP BY tenant_id, source, kafka_topic, kafka_partition
),
newest AS (
    SELECT *, max(last_event_time) OVER (PARTITION BY tenant_id, source) AS newest_event_time
    FROM partitions
)
SELECT
    tenant_id, source, min(observer) AS observer, bool_and(is_file) AS is_file,
    bool_or(has_token_events) AS has_token_events, bool_or(has_tool_calls) AS has_tool_calls,
    bool_or(has_secret_events) AS has_secret_events,
    least($as_of, CASE
        WHEN bool_and(is_file) THEN $as_of
        WHEN $as_of - max(last_ingest_time) > INTERVAL 1 HOUR THEN $as_of - to_seconds(max(lateness_s))
        ELSE min(last_event_time) FILTER (NOT is_file AND last_event_time >= newest_event_time - INTERVAL 1 HOUR)
            - to_seconds(max(lateness_s))
    END) AS watermark,
    max(lateness_s)::INTEGER AS lateness_s,
    min(first_event_time) AS first_event_time, max(last_event_time) AS last_event_time
FROM newest
GROUP BY tenant_id, source
