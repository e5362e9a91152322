-- Successful calls behind a credential whose life is known.
SELECT count(*) AS examined
FROM calls
WHERE outcome = 'success' AND credential_key IS NOT NULL AND effective_expires_at IS NOT NULL
