-- One stage of one request.
SELECT
    part,
    text_of(r.auditID) || '/' || coalesce(r.stage, '') AS event_id,
    'kubernetes' AS source,
    coalesce(moment_of(r.stageTimestamp), moment_of(r.requestReceivedTimestamp), moment_of(r.timestamp)) AS event_time,
    'resource_server' AS observer,
    $tenant_id AS tenant_id,
    r.verb || ' ' || coalesce(r.objectRef.resource, '') AS tool_name,
    'k8s' AS tool_protocol,
    CASE WHEN r.responseStatus.code IN (401, 403) THEN 'denied' WHEN r.responseStatus.code < 400 THEN 'success' ELSE 'failure' END AS outcome,
    text_of(r.user.username) AS agent_id,
    r.sourceIPs[-1] AS src_ip,
    args_hash,
    result_hash,
    ext_of(['uid', 'stage'], [r.user.uid, r.stage]) AS ext
FROM records
