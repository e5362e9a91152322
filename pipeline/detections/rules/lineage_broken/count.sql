-- Credentials whose chain was followed to its end.
SELECT count(*) AS examined FROM chains
