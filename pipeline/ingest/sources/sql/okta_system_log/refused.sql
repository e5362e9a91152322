-- Records that are no event of the log.
SELECT part, CASE WHEN text_of(r.eventType) IS NULL THEN 'eventType is missing' ELSE 'published is missing or is no time' END AS reason
FROM records
WHERE text_of(r.eventType) IS NULL OR moment_of(r.published) IS NULL
