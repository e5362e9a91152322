-- Credentials that calls named.
SELECT count(DISTINCT credential_key) AS examined FROM calls WHERE link_method IN ('T1', 'T2', 'T3')
