-- Copies of an event that the views hide: all but the first of each event_uid.
--
-- `fresh` holds the rows not yet examined, `around` all rows of the same days,
-- `known` the marks so far.  Hashes first: most events have no copy, and text of
-- 64 characters would fill the memory.
WITH suspects AS (
    SELECT hash(a.event_uid) AS h
    FROM around AS a
    WHERE
        a.event_time BETWEEN $from_time AND $to_time
        AND hash(a.event_uid) IN (SELECT hash(f.event_uid) FROM fresh AS f)
    GROUP BY hash(a.event_uid)
    HAVING count(*) > 1
),

copies AS (
    SELECT
        a.event_uid,
        a.event_date,
        a.kafka_topic,
        a.kafka_partition,
        a.kafka_offset,
        row_number() OVER (
            PARTITION BY a.event_uid
            ORDER BY a.ingest_time, a.kafka_topic, a.kafka_partition, a.kafka_offset
        ) AS place
    FROM (
        -- A copy within the same record shares its place: it cannot be told apart.
        SELECT DISTINCT
            event_uid, event_date, ingest_time, kafka_topic, kafka_partition, kafka_offset
        FROM around
        WHERE event_time BETWEEN $from_time AND $to_time
    ) AS a
    WHERE
        hash(a.event_uid) IN (SELECT s.h FROM suspects AS s)
)

SELECT
    $family AS family,
    'duplicate' AS mark,
    c.event_uid,
    c.event_date,
    c.kafka_topic,
    c.kafka_partition,
    c.kafka_offset
FROM copies AS c
WHERE
    c.place > 1
    AND NOT EXISTS (
        SELECT 1
        FROM known AS k
        WHERE
            k.mark = 'duplicate'
            AND k.kafka_topic = c.kafka_topic
            AND k.kafka_partition = c.kafka_partition
            AND k.kafka_offset = c.kafka_offset
            AND k.event_uid = c.event_uid
    )
