-- Which sources tell of an issuer's issuances, by kind of id.
CREATE OR REPLACE TEMP TABLE issuer_sources AS
SELECT DISTINCT tenant_id, credential_issuer AS issuer, credential_kind AS kind, source
FROM token_events
WHERE op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate') AND outcome = 'success'
    AND credential_id IS NOT NULL
