-- Credentials below a root whose scopes are known.
SELECT count(*) AS examined FROM chains WHERE root_scope_known AND credential_key <> root_key
