-- Tokens that are bound to a key.
SELECT count(*) AS examined FROM credentials WHERE cnf_thumbprint IS NOT NULL
