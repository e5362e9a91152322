-- Per topic and partition: which offsets some raw table holds.
SELECT
    kafka_topic,
    kafka_partition,
    min(kafka_offset) AS first_offset,
    max(kafka_offset) AS last_offset,
    count(DISTINCT kafka_offset) AS records
FROM held
GROUP BY kafka_topic, kafka_partition
ORDER BY kafka_topic, kafka_partition
