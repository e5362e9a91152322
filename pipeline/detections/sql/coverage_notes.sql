-- One short text per finding: how complete the data behind it is.
--
-- `noted` holds the findings with their place in the result.  What is named of sources lies in
-- the finding's own time, so that the note of an old finding does not change as time passes.
WITH cited AS (
    SELECT DISTINCT noted.place, known.source_key, known.event_date
    FROM (SELECT place, unnest(list_slice(event_uids, 1, 20)) AS event_uid FROM noted) AS noted
    JOIN evidence_places AS known ON known.uid_key = hash(noted.event_uid)
),
days AS (
    SELECT cited.place, coverage.source, min(coverage.event_date) AS since, max(coverage.event_date) AS until,
        sum(coverage.calls) AS calls,
        sum(coverage.linked * coverage.calls) / sum(coverage.calls) AS linked,
        sum((coverage.complete + coverage.truncated) * coverage.calls) / sum(coverage.calls) AS complete,
        sum(coverage.with_subject * coverage.calls) / sum(coverage.calls) AS with_subject,
        sum(coverage.unknown_attenuation * coverage.calls) / sum(coverage.calls) AS unknown_attenuation,
        row_number() OVER (PARTITION BY cited.place ORDER BY sum(coverage.linked * coverage.calls) / sum(coverage.calls), coverage.source) AS rank,
        count(*) OVER (PARTITION BY cited.place) AS sources
    FROM cited
    JOIN coverage ON hash(coverage.tenant_id, coverage.source) = cited.source_key AND coverage.event_date = cited.event_date
    WHERE coverage.calls > 0
    GROUP BY cited.place, coverage.source
),
-- Never rounded up to all, nor down to nothing.
told AS (
    SELECT place, rank, source || ' ' || since || CASE WHEN until > since THEN ' to ' || until ELSE '' END || ': '
        || CASE WHEN linked = 1 AND complete = 1 AND with_subject = 1 AND unknown_attenuation = 0
            THEN 'all calls linked to complete chains with a subject'
            ELSE concat_ws(', ',
                CAST(floor(linked * 100) AS INTEGER) || ' % of calls linked',
                CASE WHEN complete < 1 THEN CAST(floor(complete * 100) AS INTEGER) || ' % with their chain to its end' END,
                CASE WHEN with_subject < 1 THEN CAST(floor(with_subject * 100) AS INTEGER) || ' % with a subject' END,
                CASE WHEN unknown_attenuation > 0 THEN CAST(ceil(unknown_attenuation * 100) AS INTEGER) || ' % of unknown attenuation' END)
        END AS words
    FROM days
    WHERE rank <= 3
    UNION ALL
    SELECT place, 4, 'and ' || (sources - 3) || ' more sources' FROM days WHERE rank = 1 AND sources > 3
),
lags AS (
    SELECT noted.place, 5 AS rank, mark.source || ' lags more than ' || CASE
            WHEN epoch($as_of) - epoch(mark.watermark) - mark.lateness_s >= 7 * 86400 THEN '7 days'
            WHEN epoch($as_of) - epoch(mark.watermark) - mark.lateness_s >= 86400 THEN '1 day'
            WHEN epoch($as_of) - epoch(mark.watermark) - mark.lateness_s >= 6 * 3600 THEN '6 h'
            WHEN epoch($as_of) - epoch(mark.watermark) - mark.lateness_s >= 2 * 3600 THEN '2 h'
            WHEN epoch($as_of) - epoch(mark.watermark) - mark.lateness_s >= 3600 THEN '1 h'
            ELSE '15 min' END AS words
    FROM noted
    JOIN watermarks AS mark USING (tenant_id)
    WHERE NOT mark.is_file AND mark.watermark < noted.last_seen
        AND epoch($as_of) - epoch(mark.watermark) - mark.lateness_s >= 900
        -- What is silent is said to be silent.
        AND (mark.tenant_id, mark.source) NOT IN (SELECT (tenant_id, source) FROM source_gaps WHERE is_outage AND gap_to IS NULL)
),
silences AS (
    SELECT noted.place, 6 AS rank, gap.source || CASE
            WHEN gap.gap_to IS NULL THEN ' is silent since ' || strftime(gap.gap_from, '%Y-%m-%d %H:%M')
            ELSE ' was silent from ' || strftime(gap.gap_from, '%Y-%m-%d %H:%M') || ' to ' || strftime(gap.gap_to, '%Y-%m-%d %H:%M') END AS words
    FROM noted
    JOIN source_gaps AS gap USING (tenant_id)
    WHERE gap.is_outage AND gap.gap_from <= noted.last_seen
        AND coalesce(gap.gap_to > noted.first_seen - INTERVAL 1 HOUR, true)
    QUALIFY row_number() OVER (PARTITION BY noted.place ORDER BY gap.gap_from DESC, gap.source) <= 3
),
notes AS (
    SELECT place, string_agg(words, '; ' ORDER BY rank, words) AS words
    FROM (FROM told UNION ALL FROM lags UNION ALL FROM silences) AS all_words
    GROUP BY place
)
SELECT nullif(concat_ws('; ', noted.coverage_note, notes.words), '') AS note
FROM noted
LEFT JOIN notes USING (place)
ORDER BY noted.place
