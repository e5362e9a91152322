-- Did the context move against the last publication: a source that reaches further back or is
-- complete no longer so far, an issuer that reaches us now or through another source, an outage?
WITH reach_before AS (
    SELECT event.tenant_id, event.credential_issuer AS issuer, event.credential_kind AS kind,
        min(mark.first_event_time) AS onboarded_at
    FROM token_events AS event
    JOIN prev_watermarks AS mark USING (tenant_id, source)
    WHERE op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate') AND outcome = 'success'
        AND credential_id IS NOT NULL AND event_uid NOT IN (SELECT event_uid FROM fresh_uids)
    GROUP BY event.tenant_id, event.credential_issuer, event.credential_kind
)
SELECT
    (SELECT count(*) FROM watermarks_now AS now
        LEFT JOIN prev_watermarks AS before USING (tenant_id, source)
        WHERE before.source IS NULL OR now.watermark < before.watermark
            OR now.first_event_time IS DISTINCT FROM before.first_event_time)
    + (SELECT count(*) FROM (
        SELECT tenant_id, issuer, kind, onboarded_at FROM issuer_reach
        EXCEPT
        SELECT tenant_id, issuer, kind, onboarded_at FROM reach_before
    ) AS appeared)
    + (SELECT count(*) FROM (
        SELECT tenant_id, source, gap_from, gap_to FROM source_gaps WHERE is_outage
        EXCEPT
        SELECT tenant_id, source, gap_from, gap_to FROM prev_source_gaps WHERE is_outage
    ) AS began)
    + (SELECT count(*) FROM (
        SELECT tenant_id, source, gap_from, gap_to FROM prev_source_gaps WHERE is_outage
        EXCEPT
        SELECT tenant_id, source, gap_from, gap_to FROM source_gaps WHERE is_outage
    ) AS filled)
