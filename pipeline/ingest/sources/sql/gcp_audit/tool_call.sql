-- One log entry.
WITH entry AS (
    SELECT *,
        coalesce(text_of(r.protoPayload.authenticationInfo.principalEmail),
            regexp_replace(text_of(r.protoPayload.authenticationInfo.principalSubject), '^(serviceAccount|user):', '')) AS who,
        -- Sorted as the delegations happened, the real authority first.
        list_filter(list_transform(r.protoPayload.authenticationInfo.serviceAccountDelegationInfo, lambda one: coalesce(
            text_of(one.firstPartyPrincipal.principalEmail),
            regexp_replace(text_of(coalesce(one.principalSubject, one.firstPartyPrincipal.principalSubject)), '^(serviceAccount|user):', ''),
            text_of(one.thirdPartyPrincipal.thirdPartyClaims.sub))), lambda one: one IS NOT NULL) AS behind,
        coalesce(len(r.protoPayload.authenticationInfo.serviceAccountDelegationInfo), 0) AS delegations,
        list_transform(r.protoPayload.authorizationInfo, lambda one: lower(one.granted)) AS granted,
        coalesce(text_of(r.protoPayload.methodName), '') AS method,
        coalesce(moment_of(r.timestamp), moment_of(r.protoPayload.requestMetadata.requestAttributes.time), moment_of(r.receiveTimestamp)) AS happened,
        text_of(regexp_replace(r.protoPayload.serviceName, '[.]googleapis[.]com$', '')) AS service,
        coalesce(
            nullif(regexp_replace(regexp_extract(r.logName, '^(.+)/logs/', 1), '^projects/', ''), ''),
            text_of(r.resource.labels['project_id']), $instance) AS project,
        -- To whom the change gave something; what it took away gives nobody more.
        array_to_string(list_sort(list_distinct(list_filter(
            list_transform(r.protoPayload.serviceData.policyDelta.bindingDeltas,
                lambda one: CASE WHEN one.action = 'REMOVE' THEN NULL ELSE text_of(one.member) END),
            lambda one: one IS NOT NULL))), ' ') AS grantees
    FROM records
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
    nullif(regexp_extract(lower(r.spanId), '^([0-9a-f]{16})$', 1), '') AS span_id,
    coalesce(text_of(method), 'unknown') AS tool_name,
    text_of(r.protoPayload.serviceName) AS tool_server,
    CASE WHEN r.protoPayload.serviceName = 'k8s.io' THEN 'k8s' ELSE 'cloud_api' END AS tool_protocol,
    concat_ws(':', service, coalesce(text_of(method), 'unknown')) AS operation,
    CASE
        WHEN r.protoPayload.status.code IN (7, 16) THEN 'denied'
        WHEN r.protoPayload.status.code = 4 THEN 'timeout'
        WHEN r.protoPayload.status.code <> 0 THEN 'failure'
        WHEN list_contains(granted, 'false') AND NOT list_contains(granted, 'true') THEN 'denied'
        -- Accepted; the last record of the operation tells how it ended.
        WHEN r.operation.first AND NOT coalesce(r.operation.last, false) THEN 'unknown'
        ELSE 'success'
    END AS outcome,
    -- Google leaves out `granted` where it is false.
    CASE
        WHEN r.protoPayload.status.code = 7 OR list_contains(granted, 'false') THEN 'deny'
        WHEN len(granted) > 0 AND len(list_filter(granted, lambda one: one = 'true')) = len(granted) THEN 'allow'
    END AS decision_effect,
    list_sort(list_distinct(list_filter(list_transform(r.protoPayload.authorizationInfo, lambda one: text_of(one.permission)), lambda one: one IS NOT NULL))) AS required_scopes,
    CASE
        WHEN regexp_matches(method, 'AccessSecretVersion$|[.]core[.]v1[.]secrets[.](get|list|watch)$') THEN 'secret_read'
        WHEN service IN ('iamcredentials', 'sts') OR regexp_matches(method, '[.](pods[.](exec|attach)[.]create)$|(Run|Invoke|Execute|Predict|GenerateContent|CallFunction)[A-Za-z]*$') THEN 'execute'
        WHEN regexp_matches(method, '(?i)(^|[.])(get|list|search|read|lookup|query|check|test|describe|fetch|watch|batchget|aggregatedlist)[A-Za-z]*$') THEN 'read'
        WHEN service = 'iam' OR regexp_matches(method, '(?i)(setIam(Policy|Permissions)|ServiceAccountKey|ServiceAccount|IamPolicy|GroupMember|RoleMember|Role|OwnershipInvite|AccessPolicy|WorkloadIdentityPool[A-Za-z]*|(role|clusterrole)(binding)?s[.](create|update|patch|delete))$')
            THEN 'admin_iam'
        WHEN regexp_matches(method, '(?i)(^|[.])(delete|remove|destroy|purge)[A-Za-z]*$') THEN 'delete'
        WHEN regexp_matches(method, '(?i)(^|[.])(create|insert|update|patch|set|add|put|write|upload|import|copy|rewrite|compose|move|attach|detach|enable|disable|undelete)[A-Za-z]*$') THEN 'write'
    END AS action_class,
    text_of(r.protoPayload.resourceName) AS resource,
    -- One operation may be told in several records.
    coalesce(CASE WHEN r.operation.first IS DISTINCT FROM r.operation.last THEN text_of(r.operation.id) END, text_of(r.insertId), sha256) AS call_id,
    CASE
        WHEN text_of(r.operation.id) IS NULL OR r.operation.first IS NOT DISTINCT FROM r.operation.last THEN 'single'
        WHEN r.operation.first THEN 'pre' ELSE 'post'
    END AS phase,
    -- Google names nobody where anybody may read.
    coalesce(who, 'unknown') AS agent_id,
    CASE WHEN who IS NOT NULL THEN 'gcp' END AS agent_issuer,
    who AS actor_id,
    CASE WHEN who IS NOT NULL THEN 'gcp' END AS actor_issuer,
    CASE WHEN delegations > 0 THEN 'impersonation' ELSE 'none' END AS actor_convention,
    behind[1] AS subject_id,
    CASE WHEN len(behind) > 0 THEN 'gcp' END AS subject_issuer,
    CASE
        WHEN behind[1] IS NULL THEN NULL
        WHEN behind[1] LIKE '%gserviceaccount.com' THEN 'service_account'
        WHEN behind[1] LIKE '%@prod.google.com' OR behind[1] LIKE '%/workloadIdentityPools/%' THEN 'workload'
        WHEN behind[1] LIKE '%/workforcePools/%' OR behind[1] NOT LIKE '%:%' AND behind[1] LIKE '%@%' THEN 'human'
        ELSE 'unknown'
    END AS subject_kind,
    CASE WHEN len(behind) > 0 THEN list_transform(list_filter(list_prepend(who, list_reverse(behind[2:])), lambda one: one IS NOT NULL),
        lambda one: {'issuer': 'gcp', 'subject': one}) END AS act_chain,
    CASE WHEN len(behind) < delegations THEN 'delegation_without_principal' END AS act_malformed_reason,
    CASE WHEN r.protoPayload.authenticationInfo.serviceAccountKeyName <> '' THEN 'gcp' END AS credential_issuer,
    CASE WHEN r.protoPayload.authenticationInfo.serviceAccountKeyName <> '' THEN 'api_key_id' END AS credential_kind,
    text_of(regexp_replace(r.protoPayload.authenticationInfo.serviceAccountKeyName, '^.*/keys/', '')) AS credential_id,
    text_of(r.protoPayload.requestMetadata.callerIp) AS src_ip,
    text_of(r.protoPayload.requestMetadata.callerSuppliedUserAgent) AS user_agent,
    args_hash,
    result_hash,
    ext_of(
        ['logName', 'principalSubject', 'serviceAccountKeyName', 'oauthClientId', 'statusCode', 'operationId', 'resourceType', 'target_id',
            'record_sha256'],
        [r.logName, r.protoPayload.authenticationInfo.principalSubject, r.protoPayload.authenticationInfo.serviceAccountKeyName,
            r.protoPayload.authenticationInfo.oauthInfo.oauthClientId, CAST(r.protoPayload.status.code AS VARCHAR), r.operation.id, r.resource.type,
            grantees, sha256]
    ) AS ext,
    method = '' AS is_partial
FROM entry
WHERE r.protoPayload IS NOT NULL AND happened IS NOT NULL
