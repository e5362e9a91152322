-- Events whose tenant, source and event_id another event bears too.
--
-- The other one may lie on any day, so this reads the ids of the whole table.
WITH suspects AS (
    SELECT hash(a.tenant_id, a.source, a.event_id) AS h
    FROM anywhere AS a
    WHERE
        hash(a.tenant_id, a.source, a.event_id) IN (
            SELECT hash(f.tenant_id, f.source, f.event_id) FROM fresh AS f
        )
    GROUP BY hash(a.tenant_id, a.source, a.event_id)
    HAVING count(*) > 1
),

bearers AS (
    SELECT DISTINCT
        a.tenant_id,
        a.source,
        a.event_id,
        a.event_uid,
        a.event_date
    FROM anywhere AS a
    WHERE hash(a.tenant_id, a.source, a.event_id) IN (SELECT s.h FROM suspects AS s)
),

counted AS (
    SELECT
        b.event_uid,
        b.event_date,
        count(*) OVER (PARTITION BY b.tenant_id, b.source, b.event_id) AS events
    FROM bearers AS b
)

SELECT
    $family AS family,
    'id_conflict' AS mark,
    c.event_uid,
    c.event_date,
    CAST(NULL AS VARCHAR) AS kafka_topic,
    CAST(NULL AS INTEGER) AS kafka_partition,
    CAST(NULL AS BIGINT) AS kafka_offset
FROM counted AS c
WHERE
    c.events > 1
    AND NOT EXISTS (
        SELECT 1 FROM known AS k WHERE k.mark = 'id_conflict' AND k.event_uid = c.event_uid
    )
