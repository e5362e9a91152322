-- Ids of credentials whose parent must be inferred, and once a round the other names of them.
CREATE OR REPLACE TEMP TABLE needy_ids_next AS
SELECT DISTINCT other.key
FROM token_keys AS mine
JOIN token_keys AS other ON other.event_uid = mine.event_uid AND other.strength = 'id'
WHERE mine.strength = 'id' AND mine.key IN (SELECT key FROM needy_ids)
UNION
SELECT key FROM needy_ids
