-- Issuers whose issuances do reach us, by kind of id: only of those does a missing issuance
-- mean anything.
CREATE OR REPLACE TEMP TABLE issuer_reach AS
SELECT
    event.tenant_id, event.credential_issuer AS issuer, event.credential_kind AS kind,
    min(mark.watermark) AS watermark, min(mark.first_event_time) AS onboarded_at
FROM (
    SELECT DISTINCT tenant_id, credential_issuer, credential_kind, source
    FROM token_events
    WHERE op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate') AND outcome = 'success'
        AND credential_id IS NOT NULL
) AS event
JOIN watermarks_now AS mark USING (tenant_id, source)
GROUP BY event.tenant_id, event.credential_issuer, event.credential_kind
