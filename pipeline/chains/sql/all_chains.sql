CREATE OR REPLACE TEMP VIEW all_chains AS
SELECT credential_key, status, unknown_count FROM prev_chains
WHERE credential_key NOT IN (
    SELECT credential_key FROM prev_credential_aliases WHERE alias_key IN (SELECT key_text(id_key) FROM ids))
UNION ALL
SELECT key_text(credential_key), status, unknown_count FROM chain
