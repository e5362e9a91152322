-- A secret that was read, made or deleted under its name.  An update may have changed a label
-- only, and a list names no secret: those are calls and nothing more.
SELECT
    part,
    coalesce(text_of(r.auditID) || coalesce('/' || r.stage, ''), sha256) AS event_id,
    concat_ws(':', 'kubernetes.audit', $instance) AS source,
    coalesce(written_moment_of(r.stageTimestamp), written_moment_of(r.requestReceivedTimestamp), written_moment_of(r.timestamp)) AS event_time,
    'secret_store' AS observer,
    $tenant_id AS tenant_id,
    CASE lower(r.verb) WHEN 'create' THEN 'create' WHEN 'delete' THEN 'delete' ELSE 'read' END AS op,
    concat_ws('/', 'k8s', $instance, r.objectRef.namespace, text_of(r.objectRef.name)) AS secret_id,
    CASE r.requestObject.type WHEN 'kubernetes.io/tls' THEN 'x509' WHEN 'kubernetes.io/ssh-auth' THEN 'ssh_key' END AS secret_kind,
    concat_ws(':', 'k8s', $instance) AS store,
    text_of(r.user.username) AS accessed_by_id,
    CASE WHEN text_of(r.user.username) IS NOT NULL THEN concat_ws(':', 'k8s', $instance) END AS accessed_by_issuer,
    ext_of(['verb', 'type', 'impersonatedUser'], [r.verb, r.requestObject.type, r.impersonatedUser.username]) AS ext
FROM records
WHERE r.objectRef.resource = 'secrets' AND text_of(r.objectRef.name) IS NOT NULL AND text_of(r.objectRef.subresource) IS NULL
    AND lower(r.verb) IN ('get', 'list', 'watch', 'create', 'delete')
    AND coalesce(r.stage, 'ResponseComplete') = 'ResponseComplete' AND r.responseStatus.code < 400
    AND event_time IS NOT NULL
