-- Keys of service accounts, API keys and kept secrets that were made, read or removed.
WITH entry AS (
    SELECT *,
        coalesce(text_of(r.protoPayload.authenticationInfo.principalEmail),
            regexp_replace(text_of(r.protoPayload.authenticationInfo.principalSubject), '^(serviceAccount|user):', '')) AS who,
        regexp_extract(r.protoPayload.methodName, '[A-Za-z]+$') AS method,
        coalesce(moment_of(r.timestamp), moment_of(r.protoPayload.requestMetadata.requestAttributes.time), moment_of(r.receiveTimestamp)) AS happened,
        concat_ws(' ', r.protoPayload.response.name, r.protoPayload.request.name, r.protoPayload.resourceName) AS named,
        coalesce(
            nullif(regexp_replace(regexp_extract(r.logName, '^(.+)/logs/', 1), '^projects/', ''), ''),
            text_of(r.resource.labels['project_id']), $instance) AS project
    FROM records
    WHERE coalesce(r.protoPayload.status.code, 0) = 0
        AND NOT (coalesce(r.operation.first, false) AND NOT coalesce(r.operation.last, false))
        AND regexp_matches(r.protoPayload.methodName,
            '((Create|Upload|Delete|Disable)ServiceAccountKey|(Create|Delete)Secret|(Add|Access|Destroy|Disable)SecretVersion|ApiKeys[.](Create|Delete)Key)$')
),
touched AS (
    SELECT *,
        CASE WHEN method LIKE '%ServiceAccountKey' THEN 'gcp.iam' WHEN method LIKE '%Key' THEN 'gcp.apikeys' ELSE 'gcp.secretmanager' END AS kept_in,
        CASE WHEN method LIKE '%Key' THEN nullif(regexp_extract(named, '/keys/([^/ ]+)', 1), '')
            -- The project stands as a number or a name; the label always gives the name.
            ELSE concat_ws('/', 'projects', coalesce(text_of(r.resource.labels['project_id']), nullif(regexp_extract(named, 'projects/([^/ ]+)', 1), '')),
                'secrets', nullif(regexp_extract(named, '/secrets/([^/ ]+)', 1), '')) END AS secret
    FROM entry
)
SELECT
    part,
    coalesce(text_of(r.insertId), sha256) AS event_id,
    concat_ws(':', 'gcp.audit', project) AS source,
    happened AS event_time,
    'cloud_audit' AS observer,
    $tenant_id AS tenant_id,
    'gcp:' || project AS trust_domain,
    nullif(regexp_extract(lower(r.trace), '([0-9a-f]{32})$', 1), '') AS trace_id,
    CASE
        WHEN method LIKE 'Create%' OR method LIKE 'Upload%' THEN 'create'
        WHEN method LIKE 'Access%' THEN 'read'
        WHEN method LIKE 'Add%' THEN 'rotate'
        WHEN method LIKE 'Disable%' THEN 'revoke'
        ELSE 'delete'
    END AS op,
    secret AS secret_id,
    -- `latest` is no version: which one it was, another of the names may tell.
    nullif(regexp_extract(named, '/versions/([0-9]+)', 1), '') AS secret_version,
    CASE kept_in WHEN 'gcp.iam' THEN 'gcp_sa_key' WHEN 'gcp.apikeys' THEN 'api_key' ELSE 'other' END AS secret_kind,
    kept_in AS store,
    CASE WHEN kept_in = 'gcp.iam' THEN coalesce(text_of(r.resource.labels['email_id']), nullif(regexp_extract(named, 'serviceAccounts/([^/ ]+)', 1), '')) END AS bound_identity_id,
    CASE WHEN kept_in = 'gcp.iam' THEN 'gcp' END AS bound_identity_issuer,
    who AS accessed_by_id,
    CASE WHEN who IS NOT NULL THEN 'gcp' END AS accessed_by_issuer,
    CASE WHEN op = 'create' THEN happened END AS created_at,
    CASE WHEN op = 'rotate' THEN happened END AS last_rotated_at,
    CASE WHEN op = 'read' THEN happened END AS last_used_at,
    CASE WHEN r.protoPayload.response.valid_before_time.seconds < 253402300799 THEN TRY(to_timestamp(r.protoPayload.response.valid_before_time.seconds)) END AS expires_at,
    kept_in = 'gcp.iam' AND coalesce(r.protoPayload.response.valid_before_time.seconds, 253402300799) >= 253402300799 AS never_expires,
    ext_of(['methodName', 'resourceName', 'record_sha256'], [r.protoPayload.methodName, r.protoPayload.resourceName, sha256]) AS ext
FROM touched
WHERE happened IS NOT NULL AND secret IS NOT NULL AND secret LIKE CASE WHEN kept_in = 'gcp.secretmanager' THEN '%/secrets/_%' ELSE '%' END
