-- Entries that neither grant, nor use, nor take away.
SELECT part, CASE r.event WHEN 'done' THEN 'end of a node''s work' ELSE 'kill that reached no node' END AS reason
FROM records
WHERE r.event = 'done' OR (r.event = 'kill' AND coalesce(len(r.revoked), 0) = 0)
