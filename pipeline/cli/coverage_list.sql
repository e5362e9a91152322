-- Coverage by source and day with how the source stands now, the worst first.
WITH shares AS (
    SELECT tenant_id, source, event_date,
        unnest(list_filter([
            {'share': with_agent, 'name': 'agent'},
            -- A subject is missed only where the class wants one.
            {'share': with_expected_subject, 'name': 'subject'},
            {'share': with_resource, 'name': 'resource'},
            {'share': with_decision, 'name': 'decision'},
            {'share': with_correlation, 'name': 'correlation'},
            {'share': linked, 'name': 'linked'},
            {'share': complete + truncated, 'name': 'complete'}
        ], lambda one: one.share < 1)) AS one
    FROM coverage
),
worst AS (
    SELECT tenant_id, source, event_date, min(one) AS one
    FROM shares
    GROUP BY tenant_id, source, event_date
),
silent AS (
    SELECT tenant_id, source, max(gap_from) AS silent_since
    FROM source_gaps
    WHERE gap_to IS NULL AND is_outage
    GROUP BY tenant_id, source
)
SELECT coverage.*, worst.one.name AS worst, worst.one.share AS worst_share,
    mark.is_file, mark.watermark,
    CASE WHEN mark.is_file THEN 0.0
        ELSE greatest(0, epoch($as_of) - epoch(mark.watermark) - mark.lateness_s) END AS lag_s,
    silent.silent_since
FROM coverage
LEFT JOIN worst USING (tenant_id, source, event_date)
LEFT JOIN watermarks AS mark USING (tenant_id, source)
LEFT JOIN silent USING (tenant_id, source)
WHERE (len($source) = 0 OR list_contains($source, coverage.source))
    AND (len($tenant) = 0 OR list_contains($tenant, coverage.tenant_id))
    AND ($start IS NULL OR coverage.event_date >= CAST($start AS DATE))
    AND ($end IS NULL OR coverage.event_date < CAST($end AS DATE))
ORDER BY silent.silent_since IS NULL, worst.one.share NULLS LAST, coverage.event_date DESC,
    coverage.tenant_id, coverage.source
LIMIT $limit OFFSET $after
