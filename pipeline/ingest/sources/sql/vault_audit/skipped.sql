SELECT part, 'the test record of a new audit device' AS reason
FROM records
WHERE r.request.path = 'sys/audit/test' AND r.auth.accessor IS NULL
UNION ALL
-- Vault answers it by itself, without an id or a second record.
SELECT part, 'a request for the help on a path' AS reason
FROM records
WHERE r.type = 'request' AND r.request.operation = 'help' AND text_of(r.request.id) IS NULL AND text_of(r.request.path) IS NOT NULL
