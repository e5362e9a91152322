-- Credentials whose scopes are known.
SELECT count(*) AS examined FROM credentials WHERE seen_issued AND scope_known
