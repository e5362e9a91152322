SELECT tenant_id, source, date_trunc('hour', minute) AS hour,
    CAST(sum(events) AS BIGINT) AS events, CAST(sum(calls) AS BIGINT) AS calls, CAST(sum(routed_calls) AS BIGINT) AS routed_calls,
    min(first_event_time) AS first_event_time, max(last_event_time) AS last_event_time
FROM heartbeats
GROUP BY tenant_id, source, date_trunc('hour', minute)
