-- Credentials made with a revoked one somewhere above them.
SELECT count(*) AS examined FROM chains WHERE revoked_ancestor_key IS NOT NULL
