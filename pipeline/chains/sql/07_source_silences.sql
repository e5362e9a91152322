-- Silences that are longer than what the source itself, or the registry, makes one expect;
-- and how each stream's latest words stand.  What is normal is learned from the days before
-- the silence: the longest silence of nine days in ten, so that nights and weekends are
-- normal and one old outage is not.
CREATE OR REPLACE TEMP TABLE source_silences AS
WITH days AS (
    SELECT tenant_id, source, CAST(last_event_time AS DATE) AS day,
        max(epoch(next_event_time) - epoch(last_event_time)) AS longest_s
    FROM source_minutes
    WHERE next_event_time IS NOT NULL
    GROUP BY tenant_id, source, CAST(last_event_time AS DATE)
),
-- Five minutes are nobody's outage; looking at shorter pauses would only cost.
pauses AS (
    SELECT pause.tenant_id, pause.source, pause.last_event_time AS gap_from, pause.next_event_time AS gap_to
    FROM source_minutes AS pause
    JOIN watermarks_now AS mark USING (tenant_id, source)
    WHERE epoch(pause.next_event_time) - epoch(pause.last_event_time) >= 300
        -- A file is closed where it ends.
        OR (pause.next_event_time IS NULL AND NOT mark.is_file)
),
learned AS (
    SELECT pauses.tenant_id, pauses.source, pauses.gap_from, count(*) AS days,
        list_extract(list_sort(list(days.longest_s)), CAST(ceil(0.9 * count(*)) AS INTEGER)) AS expected_s
    FROM pauses
    JOIN days ON days.tenant_id = pauses.tenant_id AND days.source = pauses.source
        AND days.day < CAST(pauses.gap_from AS DATE) AND days.day >= CAST(pauses.gap_from AS DATE) - 28
    GROUP BY pauses.tenant_id, pauses.source, pauses.gap_from
),
expected AS (
    SELECT tenant_id, source, min(expected_interval_s) AS expected_s, max(grace_s) AS grace_s
    FROM (
        SELECT mark.tenant_id, mark.source, known.expected_interval_s, known.grace_s
        FROM watermarks_now AS mark
        JOIN reg_sources AS known ON known.source = mark.source
            AND (known.tenant_id IS NULL OR known.tenant_id = mark.tenant_id)
    ) AS named
    GROUP BY tenant_id, source
)
SELECT pauses.tenant_id, pauses.source, pauses.gap_from, pauses.gap_to,
    CAST(coalesce(expected.expected_s, learned.expected_s) AS DOUBLE) AS expected_interval_s,
    expected.expected_s IS NOT NULL AS is_registered,
    -- How late a record of this source may be without anything being wrong.
    CAST(greatest(coalesce(expected.grace_s, 0), mark.lateness_s) AS BIGINT) AS grace_s
FROM pauses
JOIN watermarks_now AS mark USING (tenant_id, source)
LEFT JOIN expected USING (tenant_id, source)
-- Under a week of history, nights and weekends are not known yet.
LEFT JOIN learned ON learned.tenant_id = pauses.tenant_id AND learned.source = pauses.source
    AND learned.gap_from = pauses.gap_from AND learned.days >= 7
WHERE coalesce(expected.expected_s, learned.expected_s) IS NOT NULL
    AND (pauses.gap_to IS NULL
        OR epoch(pauses.gap_to) - epoch(pauses.gap_from) > coalesce(expected.expected_s, learned.expected_s))
