-- Strong keys, and those weak keys by which something is to be inferred.
CREATE OR REPLACE TEMP TABLE item_keys AS
WITH all_keys AS (
    SELECT event_uid, 't' AS family, key, is_weak, is_needy FROM token_keys WHERE key IS NOT NULL
    UNION ALL
    SELECT event_uid, 'c', key, is_weak, is_needy FROM call_keys WHERE key IS NOT NULL
)
SELECT DISTINCT event_uid, family, key
FROM all_keys
WHERE NOT is_weak OR key IN (SELECT key FROM all_keys WHERE is_weak AND is_needy)
