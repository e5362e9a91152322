SELECT part, 'OCSF class ' || coalesce(r.class_uid, r.type_uid // 100) || CASE coalesce(r.class_uid, r.type_uid // 100)
    WHEN 2004 THEN ' (Detection Finding)' WHEN 3003 THEN ' (Authorize Session)' WHEN 3004 THEN ' (Entity Management)'
    WHEN 3006 THEN ' (Group Management)' ELSE '' END || ' is not read' AS reason
FROM records
WHERE coalesce(r.class_uid, r.type_uid // 100) NOT IN (3001, 3002, 3005, 3007, 3008, 6003)
UNION ALL
SELECT part, 'an authentication that names no credential'
FROM records
WHERE coalesce(r.class_uid, r.type_uid // 100) = 3002
