SELECT
    part,
    CASE WHEN coalesce(text_of(r.verb), text_of(r.requestURI), text_of(r.objectRef.resource)) IS NULL
        THEN 'verb, requestURI and objectRef are missing'
        ELSE 'stageTimestamp and requestReceivedTimestamp are missing or no times'
    END AS reason
FROM records
WHERE coalesce(text_of(r.verb), text_of(r.requestURI), text_of(r.objectRef.resource)) IS NULL
    OR coalesce(moment_of(r.stageTimestamp), moment_of(r.requestReceivedTimestamp), moment_of(r.timestamp)) IS NULL
