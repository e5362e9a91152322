CREATE OR REPLACE TEMP VIEW all_call_links AS
SELECT event_uid, credential_key FROM prev_call_links
WHERE event_uid NOT IN (SELECT event_uid FROM obs)
UNION ALL
SELECT event_uid, key_text(credential_key) FROM call_link
