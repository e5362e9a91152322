-- Successful uses of each credential, by calls.
CREATE OR REPLACE TEMP TABLE uses AS
SELECT credential_key, min(event_time) AS first_use, max(event_time) AS last_use, count(*) AS uses
FROM call_link
WHERE is_primary AND succeeded AND credential_key IS NOT NULL
GROUP BY credential_key
