-- Issuers whose issuances do reach us, by kind of id: only of those does a missing issuance
-- mean anything.
CREATE OR REPLACE TEMP TABLE issuer_reach AS
SELECT
    told.tenant_id, told.issuer, told.kind,
    min(mark.watermark) AS watermark, min(mark.first_event_time) AS onboarded_at
FROM issuer_sources AS told
JOIN watermarks_now AS mark USING (tenant_id, source)
GROUP BY told.tenant_id, told.issuer, told.kind
