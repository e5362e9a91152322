-- A part of the audit trail is missing: a source is silent, numbers are missing, a log fails its
-- own integrity check, an hour is far too quiet, or two ends of one route disagree.
--
-- One row per source, kind of gap and UTC day on which it began, so that a gap which grows stays
-- one finding.  Nothing here counts the time that passes: an open gap changes no row by itself.
--
-- Producers tell of their own log through `ext`: `sequence` (a whole number that grows by one with
-- each record), `sequence_stream` (optional: which of the source's sequences), `chain_verdict`
-- (`intact` or `broken`: whether the hash chain or signature held) and `chain_verdict_reason`.
WITH silences AS (
    SELECT tenant_id, source, gap_from, gap_to, expected_interval_s, is_registered
    FROM source_gaps
    WHERE gap_from < $as_of
        -- Learned habits say nothing where everybody else is silent, too.
        AND (is_registered OR peers_active)
        AND CASE
            WHEN gap_to IS NOT NULL THEN epoch(gap_to) - epoch(gap_from)
            WHEN is_registered THEN epoch($as_of) - epoch(gap_from) - grace_s
            ELSE epoch(least(heard_until, $as_of)) - epoch(gap_from) - grace_s
        END > greatest($gap_min_s, $interval_factor * expected_interval_s)
),
noted AS (
    SELECT tenant_id, source, event_time, event_uid, ext FROM tool_calls
    WHERE ext['sequence'] IS NOT NULL OR ext['chain_verdict'] IS NOT NULL
    UNION ALL
    SELECT tenant_id, source, event_time, event_uid, ext FROM token_events
    WHERE ext['sequence'] IS NOT NULL OR ext['chain_verdict'] IS NOT NULL
    UNION ALL
    SELECT tenant_id, source, event_time, event_uid, ext FROM secret_events
    WHERE ext['sequence'] IS NOT NULL OR ext['chain_verdict'] IS NOT NULL
),
numbered AS (
    SELECT
        tenant_id, source, coalesce(ext['sequence_stream'], '') AS stream,
        TRY_CAST(ext['sequence'] AS BIGINT) AS number, min(event_time) AS event_time, min(event_uid) AS event_uid
    FROM noted
    WHERE TRY_CAST(ext['sequence'] AS BIGINT) IS NOT NULL
    GROUP BY tenant_id, source, coalesce(ext['sequence_stream'], ''), TRY_CAST(ext['sequence'] AS BIGINT)
),
followed AS (
    SELECT
        *,
        lead(number) OVER (PARTITION BY tenant_id, source, stream ORDER BY number) AS next_number,
        lead(event_time) OVER (PARTITION BY tenant_id, source, stream ORDER BY number) AS next_time,
        lead(event_uid) OVER (PARTITION BY tenant_id, source, stream ORDER BY number) AS next_uid
    FROM numbered
),
holes AS (
    SELECT
        followed.tenant_id, followed.source, followed.event_time AS gap_from, followed.next_time AS gap_to,
        followed.next_number - followed.number - 1 AS missing, followed.event_uid, followed.next_uid
    FROM followed
    INNER JOIN watermarks AS mark
        ON followed.tenant_id = mark.tenant_id AND followed.source = mark.source
    WHERE followed.next_number - followed.number > 1
        AND followed.next_number - followed.number <= $renumbered_from
        AND followed.next_time >= followed.event_time
        -- Behind the watermark a missing record is merely not there yet.
        AND followed.next_time < mark.watermark
),
-- What this hour of the week usually holds; a week in which the source was silent counts as none.
judged_hours AS (
    SELECT mark.tenant_id, mark.source, spoken.hour, mark.first_event_time
    FROM watermarks AS mark
    INNER JOIN (SELECT tenant_id, hour FROM source_hours GROUP BY tenant_id, hour) AS spoken
        ON mark.tenant_id = spoken.tenant_id
    WHERE spoken.hour > mark.first_event_time
        -- A file is closed where it ends, and its last hour may be cut.
        AND CASE
            WHEN mark.is_file THEN spoken.hour + INTERVAL 1 HOUR <= mark.last_event_time
            ELSE spoken.hour + INTERVAL 1 HOUR + to_seconds(mark.lateness_s) <= $as_of
        END
),
past_hours AS (
    SELECT tenant_id, source, hour, hour - INTERVAL 7 DAY * week AS then_hour
    FROM judged_hours
    CROSS JOIN unnest([1, 2, 3, 4, 5, 6, 7, 8]) AS weeks(week)
    WHERE hour - INTERVAL 7 DAY * week > first_event_time
),
usual AS (
    SELECT
        past.tenant_id, past.source, past.hour, count(*) AS weeks,
        median(coalesce(held.events, 0)) AS usual_events
    FROM past_hours AS past
    LEFT JOIN source_hours AS held
        ON past.tenant_id = held.tenant_id AND past.source = held.source AND past.then_hour = held.hour
    GROUP BY past.tenant_id, past.source, past.hour
    HAVING count(*) >= $volume_weeks_min
),
volumes AS (
    SELECT
        usual.tenant_id, usual.source, usual.hour, usual.usual_events, usual.weeks,
        coalesce(held.events, 0) AS events, held.first_event_time, held.last_event_time,
        sum(coalesce(held.events, 0)) OVER (PARTITION BY usual.tenant_id, usual.hour)
            - coalesce(held.events, 0) AS peer_events,
        sum(usual.usual_events) OVER (PARTITION BY usual.tenant_id, usual.hour)
            - usual.usual_events AS peer_usual
    FROM usual
    LEFT JOIN source_hours AS held
        ON usual.tenant_id = held.tenant_id AND usual.source = held.source AND usual.hour = held.hour
),
quiet_hours AS (
    SELECT volumes.*
    FROM volumes
    LEFT JOIN silences
        ON volumes.tenant_id = silences.tenant_id AND volumes.source = silences.source
        AND volumes.hour < coalesce(silences.gap_to, $as_of)
        AND volumes.hour + INTERVAL 1 HOUR > silences.gap_from
    WHERE volumes.usual_events >= $volume_events_min
        AND volumes.events < $volume_share_min * volumes.usual_events
        AND volumes.peer_usual > 0
        AND volumes.peer_events >= $peer_share_min * volumes.peer_usual
        -- A silence is told as one.
        AND silences.source IS NULL
),
-- Both ends of a route that the registry pairs, each pair once and by tenant.
pairs AS (
    SELECT
        near.tenant_id, near.source AS near_source, known.other AS far_source,
        date_trunc('hour', greatest(near.first_event_time, coalesce(far.first_event_time, near.first_event_time))) AS since,
        CASE
            WHEN near.is_file AND coalesce(far.is_file, true)
                THEN least(near.last_event_time, coalesce(far.last_event_time, near.last_event_time))
            WHEN near.is_file THEN near.last_event_time
            WHEN far.is_file THEN far.last_event_time
            ELSE $as_of
        END AS until,
        greatest(near.lateness_s, coalesce(far.lateness_s, 0)) AS lateness_s
    FROM (
        SELECT DISTINCT tenant_id, source, paired_with AS other FROM reg_sources WHERE paired_with IS NOT NULL
        UNION
        SELECT DISTINCT tenant_id, paired_with AS source, source AS other FROM reg_sources WHERE paired_with IS NOT NULL
    ) AS known
    INNER JOIN watermarks AS near
        ON known.source = near.source AND (known.tenant_id IS NULL OR known.tenant_id = near.tenant_id)
    LEFT JOIN watermarks AS far ON near.tenant_id = far.tenant_id AND known.other = far.source
    -- Seen from the end that is there; of two, from the one whose name is the smaller.
    WHERE near.has_tool_calls AND (far.source IS NULL OR near.source < far.source)
),
sides AS (
    SELECT
        pairs.tenant_id, pairs.near_source, pairs.far_source, CAST(told.hour AS DATE) AS day,
        -- Both sides of a call are one call; so is the one side that a source reports.
        sum(told.routed_single) FILTER (WHERE told.source = pairs.near_source) + greatest(
            sum(told.routed_pre) FILTER (WHERE told.source = pairs.near_source),
            sum(told.routed_post) FILTER (WHERE told.source = pairs.near_source)
        ) AS near_calls,
        -- Both sides of a call are one call; so is the one side that a source reports.
        sum(told.routed_single) FILTER (WHERE told.source = pairs.far_source) + greatest(
            sum(told.routed_pre) FILTER (WHERE told.source = pairs.far_source),
            sum(told.routed_post) FILTER (WHERE told.source = pairs.far_source)
        ) AS far_calls,
        min(told.first_event_time) AS first_seen, max(told.last_event_time) AS last_seen,
        list_sort(list({'source': told.source, 'at': told.first_event_time})) AS edges
    FROM pairs
    INNER JOIN source_hours AS told
        ON pairs.tenant_id = told.tenant_id AND told.source IN (pairs.near_source, pairs.far_source)
    WHERE told.hour >= pairs.since AND told.hour <= pairs.until
        AND date_trunc('day', told.hour) + INTERVAL 1 DAY + to_seconds(pairs.lateness_s) <= $as_of
    GROUP BY pairs.tenant_id, pairs.near_source, pairs.far_source, CAST(told.hour AS DATE)
),
unequal AS (
    SELECT
        *, coalesce(near_calls, 0) AS near_count, coalesce(far_calls, 0) AS far_count,
        CASE WHEN coalesce(near_calls, 0) <= coalesce(far_calls, 0) THEN near_source ELSE far_source END AS source
    FROM sides
    WHERE greatest(coalesce(near_calls, 0), coalesce(far_calls, 0)) >= $paired_calls_min
        AND least(coalesce(near_calls, 0), coalesce(far_calls, 0))
        < $ratio_min * greatest(coalesce(near_calls, 0), coalesce(far_calls, 0))
),
-- The records at the edges of what has no numbers: found by source and time.
edges AS (
    SELECT tenant_id, source, gap_from AS event_time FROM silences
    UNION
    SELECT tenant_id, source, gap_to AS event_time FROM silences WHERE gap_to IS NOT NULL
    UNION
    SELECT tenant_id, source, first_event_time AS event_time FROM quiet_hours WHERE first_event_time IS NOT NULL
    UNION
    SELECT tenant_id, edge.source, edge.at AS event_time
    FROM (SELECT tenant_id, unnest(list_slice(edges, 1, $evidence_max)) AS edge FROM unequal) AS listed
),
edge_events AS (
    SELECT edges.tenant_id, edges.source, edges.event_time, min(event.event_uid) AS event_uid
    FROM edges
    INNER JOIN (
        SELECT tenant_id, source, event_time, event_uid FROM tool_calls
        UNION ALL
        SELECT tenant_id, source, event_time, event_uid FROM token_events
        UNION ALL
        SELECT tenant_id, source, event_time, event_uid FROM secret_events
    ) AS event
        ON edges.tenant_id = event.tenant_id AND edges.source = event.source AND edges.event_time = event.event_time
    GROUP BY edges.tenant_id, edges.source, edges.event_time
),
-- Where a trail breaks at a credential that shows up in the hole or within an hour of it.
torn AS (
    SELECT silences.tenant_id, silences.source, silences.gap_from, list_sort(list(DISTINCT held.credential_key)) AS chains
    FROM chains AS chain
    INNER JOIN credentials AS held
        ON chain.tenant_id = held.tenant_id AND chain.credential_key = held.credential_key
    INNER JOIN silences
        ON held.tenant_id = silences.tenant_id AND held.first_seen > silences.gap_from
        AND held.first_seen < coalesce(silences.gap_to + INTERVAL 1 HOUR, $as_of)
    WHERE chain.end_kind IN ('broken', 'pending') AND chain.gap_key = chain.credential_key
    GROUP BY silences.tenant_id, silences.source, silences.gap_from
),
gaps AS (
    SELECT
        silences.tenant_id, silences.source, 'silence' AS gap, silences.gap_from, silences.gap_to,
        CAST(NULL AS BIGINT) AS missing, silences.expected_interval_s,
        CAST(NULL AS DOUBLE) AS usual_events, CAST(NULL AS BIGINT) AS events,
        CAST(NULL AS VARCHAR) AS counterpart, CAST(NULL AS VARCHAR) AS reason,
        list_filter([before.event_uid, after.event_uid], lambda uid: uid IS NOT NULL) AS event_uids,
        before.event_uid AS last_event_uid,
        list_slice(coalesce(torn.chains, CAST([] AS VARCHAR[])), 1, $evidence_max) AS overlapping_chains
    FROM silences
    LEFT JOIN edge_events AS before
        ON silences.tenant_id = before.tenant_id AND silences.source = before.source
        AND silences.gap_from = before.event_time
    LEFT JOIN edge_events AS after
        ON silences.tenant_id = after.tenant_id AND silences.source = after.source
        AND silences.gap_to = after.event_time
    LEFT JOIN torn
        ON silences.tenant_id = torn.tenant_id AND silences.source = torn.source
        AND silences.gap_from = torn.gap_from
    UNION ALL
    SELECT
        tenant_id, source, 'sequence' AS gap, gap_from, gap_to, missing, NULL, NULL, NULL, NULL, NULL,
        [event_uid, next_uid], event_uid, []
    FROM holes
    UNION ALL
    SELECT
        tenant_id, source, 'integrity' AS gap, event_time, event_time, NULL, NULL, NULL, NULL, NULL,
        ext['chain_verdict_reason'], [event_uid], event_uid, []
    FROM noted
    WHERE ext['chain_verdict'] = 'broken'
    UNION ALL
    SELECT
        quiet.tenant_id, quiet.source, 'volume' AS gap, quiet.hour, quiet.hour + INTERVAL 1 HOUR, NULL, NULL,
        quiet.usual_events, quiet.events, NULL, NULL,
        list_filter([first.event_uid], lambda uid: uid IS NOT NULL), NULL, []
    FROM quiet_hours AS quiet
    LEFT JOIN edge_events AS first
        ON quiet.tenant_id = first.tenant_id AND quiet.source = first.source
        AND quiet.first_event_time = first.event_time
    UNION ALL
    SELECT
        unequal.tenant_id, unequal.source, 'pair' AS gap, unequal.first_seen, unequal.last_seen,
        CAST(greatest(near_count, far_count) - least(near_count, far_count) AS BIGINT), NULL, NULL,
        CAST(least(near_count, far_count) AS BIGINT),
        CASE WHEN unequal.source = near_source THEN far_source ELSE near_source END, NULL,
        list_sort(list(edge_events.event_uid)), NULL, []
    FROM unequal
    LEFT JOIN edge_events
        ON unequal.tenant_id = edge_events.tenant_id
        AND edge_events.source IN (unequal.near_source, unequal.far_source)
        AND edge_events.event_time >= unequal.first_seen AND edge_events.event_time <= unequal.last_seen
    GROUP BY
        unequal.tenant_id, unequal.source, unequal.first_seen, unequal.last_seen, near_count, far_count,
        near_source, far_source
),
days AS (
    SELECT
        tenant_id, source, gap, CAST(gap_from AS DATE) AS gap_date, count(*) AS gaps,
        bool_or(gap_to IS NULL) AS is_open, min(gap_from) AS gap_from, max(coalesce(gap_to, gap_from)) AS gap_to,
        sum(epoch(gap_to) - epoch(gap_from)) AS missing_s, sum(missing) AS missing_records,
        min(expected_interval_s) AS expected_interval_s, sum(usual_events) AS usual_events, sum(events) AS events,
        min(counterpart) AS counterpart,
        list_sort(list_distinct(list(reason) FILTER (WHERE reason IS NOT NULL))) AS reasons,
        list_slice(list_sort(list_distinct(flatten(list(event_uids)))), 1, $evidence_max) AS event_uids,
        arg_min(last_event_uid, gap_from) AS last_event_uid,
        list_slice(list_sort(list_distinct(flatten(list(overlapping_chains)))), 1, $evidence_max) AS overlapping_chains
    FROM gaps
    GROUP BY tenant_id, source, gap, CAST(gap_from AS DATE)
)
SELECT
    days.tenant_id,
    days.source,
    days.gap,
    days.gap_date,
    days.source AS entity,
    CASE
        WHEN days.gap = 'silence' AND days.is_open
            THEN days.source || ' has been silent since ' || CAST(days.gap_from AS VARCHAR)
        WHEN days.gap = 'silence'
            THEN days.source || ' was silent for ' || CAST(CAST(days.missing_s / 60 AS BIGINT) AS VARCHAR) || ' min'
        WHEN days.gap = 'sequence'
            THEN CAST(days.missing_records AS VARCHAR) || ' numbered records of ' || days.source || ' are missing'
        WHEN days.gap = 'integrity'
            THEN 'The log of ' || days.source || ' failed its own integrity check'
        WHEN days.gap = 'volume'
            THEN days.source || ' said far less than it usually does at this hour'
        ELSE days.source || ' reports ' || CAST(days.events AS VARCHAR) || ' calls of a route of which '
            || days.counterpart || ' reports ' || CAST(days.events + days.missing_records AS VARCHAR)
    END AS title,
    CASE WHEN days.gap = 'integrity' THEN 4 ELSE 3 END AS severity,
    mark.observer,
    days.gaps,
    days.is_open,
    days.gap_from,
    CASE WHEN NOT days.is_open THEN days.gap_to END AS gap_to,
    days.missing_records,
    days.expected_interval_s,
    days.usual_events,
    days.events,
    days.counterpart,
    days.reasons,
    days.last_event_uid,
    days.overlapping_chains,
    known.owner AS source_owner,
    days.gap_from AS first_seen,
    days.gap_to AS last_seen,
    days.event_uids
FROM days
LEFT JOIN watermarks AS mark ON days.tenant_id = mark.tenant_id AND days.source = mark.source
LEFT JOIN (
    SELECT source, tenant_id, min(owner) AS owner FROM reg_sources GROUP BY source, tenant_id
) AS known ON days.source = known.source AND (known.tenant_id IS NULL OR known.tenant_id = days.tenant_id)
