-- Credentials that somebody delegated.
SELECT count(*) AS examined FROM chains WHERE depth > 0
