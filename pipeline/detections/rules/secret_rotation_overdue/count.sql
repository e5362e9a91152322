-- Working secrets with a date to count from.
SELECT count(*) AS examined
FROM secrets
WHERE status = 'active' AND coalesce(last_rotated_at, created_at) IS NOT NULL
