-- Credentials and secrets whose environment is known.
SELECT (SELECT count(*) FROM credentials WHERE environment <> 'unknown') + (SELECT count(DISTINCT fingerprint) FROM secret_events) AS examined
