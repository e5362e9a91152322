SELECT part, 'the test record of a new audit device' AS reason
FROM records
WHERE r.request.path = 'sys/audit/test' AND r.auth.accessor IS NULL
