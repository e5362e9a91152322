SELECT
    part,
    CASE WHEN coalesce(text_of(r.verb), text_of(r.requestURI), text_of(r.objectRef.resource)) IS NULL
        THEN 'verb, requestURI and objectRef are missing'
        ELSE 'stageTimestamp and requestReceivedTimestamp are missing or no times'
    END AS reason
FROM records
WHERE coalesce(text_of(r.verb), text_of(r.requestURI), text_of(r.objectRef.resource)) IS NULL
    OR coalesce(written_moment_of(r.stageTimestamp), written_moment_of(r.requestReceivedTimestamp), written_moment_of(r.timestamp)) IS NULL
