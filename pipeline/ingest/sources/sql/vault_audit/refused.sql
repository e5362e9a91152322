SELECT
    part,
    CASE
        WHEN coalesce(r.type, '') NOT IN ('request', 'response') THEN 'type is neither request nor response'
        WHEN text_of(r.request.id) IS NULL THEN 'request.id is missing'
        WHEN text_of(r.request.path) IS NULL THEN 'request.path is missing'
        ELSE 'time is missing or no time'
    END AS reason
FROM records
WHERE coalesce(r.type, '') NOT IN ('request', 'response')
    OR (text_of(r.request.id) IS NULL AND NOT (r.type = 'request' AND coalesce(r.request.operation, '') = 'help'))
    OR text_of(r.request.path) IS NULL OR written_moment_of(r.time) IS NULL
