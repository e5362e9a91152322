-- Everything that shares a key with the scope, and all of its keys.
CREATE OR REPLACE TEMP TABLE scope_keys_next AS
SELECT key FROM scope_keys
UNION
SELECT other.key
FROM item_keys AS mine
JOIN item_keys AS other ON other.event_uid = mine.event_uid AND other.family = mine.family
WHERE mine.key IN (SELECT key FROM scope_keys)
