CREATE OR REPLACE TEMP VIEW all_chains AS
SELECT key_text(credential_key) AS credential_key, status, unknown_count FROM chain
