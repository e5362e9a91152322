-- Records whose row stands in a table more than once: replays that were not refused.
SELECT kafka_topic, kafka_partition, count(*) AS records
FROM (
    SELECT kafka_topic, kafka_partition, kafka_offset
    FROM stored
    GROUP BY kafka_topic, kafka_partition, kafka_offset, event_uid
    HAVING count(*) > 1
) AS doubled
GROUP BY kafka_topic, kafka_partition
ORDER BY kafka_topic, kafka_partition
