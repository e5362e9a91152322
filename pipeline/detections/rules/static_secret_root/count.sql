-- Chains that start at a static secret.
SELECT count(DISTINCT root_key) AS examined FROM chains WHERE root_kind = 'static_secret'
