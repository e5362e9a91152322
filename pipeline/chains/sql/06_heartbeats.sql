-- When each source spoke, by the minute: the one pass over all events from which watermarks,
-- volumes and silences follow.  Calls that left their process are what the other end of a
-- paired route can have seen; they are counted by phase, as some sources report both sides of
-- a call, and some only what came of it.
CREATE OR REPLACE TEMP TABLE heartbeats AS
WITH envelopes AS (
    SELECT tenant_id, source, observer, event_time, ingest_time, kafka_topic, kafka_partition, 1 AS family,
        CASE WHEN outcome <> 'denied' AND coalesce(tool_protocol, 'unknown') NOT IN ('mcp_stdio', 'function') THEN phase END AS routed
    FROM tool_calls
    UNION ALL
    SELECT tenant_id, source, observer, event_time, ingest_time, kafka_topic, kafka_partition, 2, NULL FROM token_events
    UNION ALL
    SELECT tenant_id, source, observer, event_time, ingest_time, kafka_topic, kafka_partition, 3, NULL FROM secret_events
)
SELECT
    -- Whole numbers: date_trunc asks the calendar for each row, fifty times slower.
    tenant_id, source, kafka_topic, kafka_partition, to_timestamp(epoch_us(event_time) // 60000000 * 60) AS minute,
    min(observer) AS observer, max(lateness_of(observer)) AS lateness_s,
    bool_or(family = 1) AS has_tool_calls, bool_or(family = 2) AS has_token_events,
    bool_or(family = 3) AS has_secret_events,
    count(*) AS events, count(*) FILTER (family = 1) AS calls,
    count(*) FILTER (routed = 'single') AS routed_single, count(*) FILTER (routed = 'pre') AS routed_pre,
    count(*) FILTER (routed = 'post') AS routed_post,
    min(event_time) AS first_event_time, max(event_time) AS last_event_time,
    max(ingest_time) AS last_ingest_time
FROM envelopes
GROUP BY tenant_id, source, kafka_topic, kafka_partition, to_timestamp(epoch_us(event_time) // 60000000 * 60)
