-- Records that hold no audit entry, or one without a time.
SELECT part, CASE WHEN r.protoPayload IS NULL THEN 'protoPayload is missing' ELSE 'timestamp is missing or is no time' END AS reason
FROM records
WHERE r.protoPayload IS NULL
    OR coalesce(moment_of(r.timestamp), moment_of(r.protoPayload.requestMetadata.requestAttributes.time), moment_of(r.receiveTimestamp)) IS NULL
