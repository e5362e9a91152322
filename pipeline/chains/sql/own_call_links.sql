CREATE OR REPLACE TEMP VIEW all_call_links AS
SELECT event_uid, key_text(credential_key) AS credential_key FROM call_link
