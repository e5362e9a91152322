-- Credentials that were used from a known place.
SELECT count(DISTINCT concat(tenant_id, credential_key)) AS examined
FROM calls
WHERE outcome = 'success' AND credential_key IS NOT NULL AND (workload_id IS NOT NULL OR src_ip IS NOT NULL)
