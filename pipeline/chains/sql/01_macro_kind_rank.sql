-- Which id names a set: issuer's own ids first, hashes of the token after them.
CREATE OR REPLACE TEMP MACRO kind_rank(kind) AS CASE
    WHEN kind IN ('jti', 'uti', 'access_key_id', 'k8s_credential_id', 'vault_accessor', 'api_key_id') THEN 0
    WHEN kind IN ('par_hash', 'x5t_s256', 'secret_version', 'local') THEN 1
    ELSE 2 END
