-- Credentials that were revoked, and secrets that were revoked or deleted.
SELECT
    (SELECT count(*) FROM credentials WHERE revoked_at IS NOT NULL)
    + (SELECT count(DISTINCT secret_id) FROM secret_events WHERE op IN ('revoke', 'delete')) AS examined
