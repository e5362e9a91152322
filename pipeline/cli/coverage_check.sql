-- Every source that is known or expected, what is wrong with it first.
WITH stood AS (
    SELECT coalesce(mark.tenant_id, known.tenant_id) AS tenant_id, coalesce(mark.source, known.source) AS source,
        known.owner, mark.last_event_time, mark.is_file, mark.watermark,
        known.source IS NOT NULL AS is_registered, mark.source IS NOT NULL AS is_seen,
        greatest(0, epoch($as_of) - epoch(mark.watermark) - mark.lateness_s) AS behind_s,
        -- Null where nobody expects anything: greatest() would pass over it.
        CASE WHEN known.expected_interval_s IS NOT NULL
            THEN epoch($as_of) - epoch(mark.last_event_time) - greatest(coalesce(known.grace_s, 0), mark.lateness_s)
                > greatest(900, 3 * known.expected_interval_s) END AS is_overdue,
        gap.gap_from IS NOT NULL AS is_outage
    FROM watermarks AS mark
    FULL JOIN (
        SELECT source, tenant_id, min(owner) AS owner, min(expected_interval_s) AS expected_interval_s, max(grace_s) AS grace_s
        FROM reg_sources
        GROUP BY source, tenant_id
    ) AS known ON known.source = mark.source AND coalesce(known.tenant_id, mark.tenant_id) = mark.tenant_id
    LEFT JOIN source_gaps AS gap
        ON gap.tenant_id = mark.tenant_id AND gap.source = mark.source AND gap.gap_to IS NULL AND gap.is_outage
),
judged AS (
    SELECT stood.*,
        CASE
            WHEN NOT is_seen THEN 'never_seen'
            WHEN NOT is_file AND coalesce(is_overdue, is_outage) THEN 'silent'
            WHEN NOT is_file AND behind_s >= 900 THEN 'lagging'
            WHEN NOT is_registered AND register.sources > 0 THEN 'unregistered'
            ELSE 'ok'
        END AS state
    FROM stood
    CROSS JOIN (SELECT count(*) AS sources FROM reg_sources) AS register
)
SELECT
    state, tenant_id, source, owner, last_event_time, is_registered, is_file, watermark,
    CASE WHEN is_seen AND NOT is_file THEN behind_s END AS lag_s,
    CASE WHEN state = 'silent' THEN last_event_time END AS since
FROM judged
ORDER BY list_position(['never_seen', 'silent', 'lagging', 'unregistered', 'ok'], state), tenant_id, source
