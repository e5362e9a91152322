-- Chains that are long enough for somebody to come back.
SELECT count(*) AS examined FROM chains WHERE links >= 1
