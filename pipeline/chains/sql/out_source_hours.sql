SELECT tenant_id, source, to_timestamp(epoch_us(minute) // 3600000000 * 3600) AS hour,
    CAST(sum(events) AS BIGINT) AS events, CAST(sum(calls) AS BIGINT) AS calls,
    CAST(sum(routed_single) AS BIGINT) AS routed_single, CAST(sum(routed_pre) AS BIGINT) AS routed_pre,
    CAST(sum(routed_post) AS BIGINT) AS routed_post,
    min(first_event_time) AS first_event_time, max(last_event_time) AS last_event_time
FROM heartbeats
GROUP BY tenant_id, source, to_timestamp(epoch_us(minute) // 3600000000 * 3600)
