-- Secrets that work.
SELECT count(*) AS examined FROM secrets WHERE status = 'active'
