-- Credentials in use for longer than the limit.
SELECT count(*) AS examined
FROM credentials
WHERE epoch(last_used_at) - epoch(first_used_at) > $dormant_d * 86400
