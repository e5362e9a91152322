-- Each silence beside what the other sources of the tenant said meanwhile: where everybody is
-- silent nobody has gone missing, and an ingest that stopped is no outage of a source.
CREATE OR REPLACE TEMP TABLE source_gaps AS
WITH ranked AS (
    SELECT tenant_id, source, last_event_time,
        row_number() OVER (PARTITION BY tenant_id ORDER BY last_event_time DESC, source) AS place
    FROM watermarks_now
),
bounded AS (
    SELECT gap.*,
        -- An open silence is one up to where another source still speaks.
        coalesce(gap.gap_to, least($as_of, CASE WHEN front.source = gap.source THEN second.last_event_time ELSE front.last_event_time END))
            AS heard_until
    FROM source_silences AS gap
    JOIN ranked AS front ON front.tenant_id = gap.tenant_id AND front.place = 1
    LEFT JOIN ranked AS second ON second.tenant_id = gap.tenant_id AND second.place = 2
),
peers AS (
    SELECT gap.tenant_id, gap.source, gap.gap_from,
        sum(peer.events) FILTER (peer.minute > gap.gap_from) AS during,
        sum(peer.events) FILTER (peer.minute <= gap.gap_from) AS before
    FROM bounded AS gap
    JOIN source_minutes AS peer ON peer.tenant_id = gap.tenant_id AND peer.source <> gap.source
        AND peer.minute > gap.gap_from - INTERVAL 24 HOUR AND peer.minute < gap.heard_until
    -- Cheap first: only what may count as an outage is compared.
    WHERE epoch(gap.heard_until) - epoch(gap.gap_from) > greatest(300, 2 * gap.expected_interval_s)
    GROUP BY gap.tenant_id, gap.source, gap.gap_from
),
judged AS (
    SELECT gap.*,
        coalesce(peers.during >= 0.5 * peers.before * (epoch(gap.heard_until) - epoch(gap.gap_from)) / 86400, false)
            AS peers_active
    FROM bounded AS gap
    LEFT JOIN peers USING (tenant_id, source, gap_from)
)
SELECT tenant_id, source, gap_from, gap_to, expected_interval_s, is_registered, peers_active, grace_s, heard_until,
    -- The defaults of BT-07, so that a chain and the finding agree.
    coalesce(CASE WHEN gap_to IS NOT NULL THEN epoch(gap_to) - epoch(gap_from)
        WHEN is_registered THEN epoch($as_of) - epoch(gap_from) - grace_s
        ELSE epoch(heard_until) - epoch(gap_from) - grace_s END > greatest(900, 3 * expected_interval_s), false)
        AND (is_registered OR peers_active) AS is_outage
FROM judged
