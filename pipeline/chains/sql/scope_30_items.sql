CREATE OR REPLACE TEMP TABLE scope_items AS
SELECT DISTINCT event_uid, family FROM item_keys WHERE key IN (SELECT key FROM scope_keys)
UNION
-- An event without any key (a call that needs no credential) is its own scope.
SELECT event_uid, family FROM fresh_uids
