-- Strong keys, and those weak keys by which something is to be inferred.  What a credential
-- lacks, all events of it lack together, whichever of them shows it.
CREATE OR REPLACE TEMP TABLE item_keys AS
WITH all_keys AS (
    SELECT event_uid, 't' AS family, key, strength, is_needy FROM token_keys WHERE key IS NOT NULL
    UNION ALL
    SELECT event_uid, 'c', key, strength, is_needy FROM call_keys WHERE key IS NOT NULL
),
needy_events AS (
    SELECT DISTINCT event_uid FROM token_keys
    WHERE strength = 'id' AND key IN (SELECT key FROM needy_ids)
)
SELECT DISTINCT event_uid, family, key
FROM all_keys
WHERE strength <> 'weak' OR key IN (
    SELECT key FROM all_keys
    WHERE strength = 'weak' AND (is_needy OR event_uid IN (SELECT event_uid FROM needy_events)))
