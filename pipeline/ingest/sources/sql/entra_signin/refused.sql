-- Records of other logs, and records without a time.
SELECT part, CASE WHEN r.kind IS NULL THEN 'category names no sign-in, Graph request or directory audit' ELSE 'time is missing or is no time' END AS reason
FROM records
WHERE r.kind IS NULL
    OR coalesce(moment_of(r.properties.createdDateTime), moment_of(r.properties.activityDateTime), moment_of(r.properties.timeGenerated), moment_of(r.time)) IS NULL
