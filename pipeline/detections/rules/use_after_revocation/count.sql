-- Credentials that were revoked.
SELECT count(*) AS examined FROM credentials WHERE revoked_at IS NOT NULL
