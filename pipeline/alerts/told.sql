-- What each sink has been told, oldest first, read from the bodies themselves.
SELECT
    finding_id,
    sink,
    body ->> '$.type' AS type,
    CAST(body ->> '$.data.severity' AS INTEGER) AS severity
FROM outbox
ORDER BY created_at, delivery_id
