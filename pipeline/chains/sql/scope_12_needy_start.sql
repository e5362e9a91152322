CREATE OR REPLACE TEMP TABLE needy_ids AS
SELECT DISTINCT key FROM token_keys WHERE strength = 'id' AND is_needy
