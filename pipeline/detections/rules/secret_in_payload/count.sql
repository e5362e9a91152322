-- Calls whose payload was looked at.
SELECT count(*) AS examined
FROM calls WHERE secret_in_payload IS NOT NULL OR args_hash IS NOT NULL OR result_hash IS NOT NULL
