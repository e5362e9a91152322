-- One stage of one request.
WITH told AS (
    SELECT
        *,
        concat_ws(':', 'k8s', $instance) AS cluster,
        coalesce(
            nullif(concat_ws('/',
                text_of(r.objectRef.apiGroup), text_of(r.objectRef.resource), text_of(r.objectRef.subresource)
            ), ''),
            -- A path that is no resource; its query may hold anything.
            text_of(split_part(r.requestURI, '?', 1))
        ) AS target,
        r.user.extra."authentication.kubernetes.io/credential-id"[1] AS held
    FROM records
),
judged AS (
    SELECT
        *,
        concat_ws(' ', text_of(lower(r.verb)), target) AS doing,
        lower(r.verb) IN ('create', 'update', 'patch', 'delete', 'deletecollection') AS changes,
        coalesce(r.impersonatedUser.username, r.user.username) AS on_behalf_of
    FROM told
)
SELECT
    part,
    coalesce(text_of(r.auditID) || coalesce('/' || r.stage, ''), sha256) AS event_id,
    concat_ws(':', 'kubernetes.audit', $instance) AS source,
    coalesce(written_moment_of(r.stageTimestamp), written_moment_of(r.requestReceivedTimestamp), written_moment_of(r.timestamp)) AS event_time,
    'resource_server' AS observer,
    $tenant_id AS tenant_id,
    text_of(r.auditID) AS call_id,
    -- Records of one phase are never merged, and a long answer has three stages.
    CASE r.stage WHEN 'RequestReceived' THEN 'pre' WHEN 'ResponseComplete' THEN 'post' WHEN 'Panic' THEN 'post'
        ELSE 'single' END AS phase,
    doing AS tool_name,
    doing AS operation,
    $instance AS tool_server,
    'k8s' AS tool_protocol,
    CASE
        WHEN r.objectRef.resource IS NULL THEN target
        WHEN r.objectRef.namespace <> '' THEN r.objectRef.namespace || '/' || coalesce(r.objectRef.name, '')
        ELSE text_of(r.objectRef.name)
    END AS resource,
    CASE
        WHEN r.objectRef.subresource IN ('exec', 'attach', 'portforward', 'proxy', 'token') THEN 'execute'
        WHEN changes AND r.objectRef.subresource = 'approval' THEN 'admin_iam'
        WHEN changes AND r.objectRef.resource IN ('roles', 'clusterroles', 'rolebindings', 'clusterrolebindings')
            AND coalesce(text_of(r.objectRef.apiGroup), 'rbac') SIMILAR TO 'rbac.*|authorization[.]openshift[.]io'
            THEN 'admin_iam'
        WHEN changes AND r.objectRef.resource = 'serviceaccounts' THEN 'admin_iam'
        -- The map of AWS principals to groups of the cluster.
        WHEN changes AND r.objectRef.resource = 'configmaps' AND r.objectRef.namespace = 'kube-system'
            AND r.objectRef.name = 'aws-auth' THEN 'admin_iam'
        -- A question asked by way of an object that is never kept.
        WHEN r.objectRef.resource SIMILAR TO '(self|local)?subject(access|rules)?reviews|tokenreviews' THEN 'read'
        WHEN lower(r.verb) IN ('get', 'list', 'watch') AND r.objectRef.resource = 'secrets' THEN 'secret_read'
        WHEN lower(r.verb) IN ('delete', 'deletecollection') THEN 'delete'
        WHEN lower(r.verb) IN ('get', 'list', 'watch', 'head', 'options', 'propfind') THEN 'read'
        WHEN lower(r.verb) IN ('create', 'update', 'patch', 'post', 'put') THEN 'write'
    END AS action_class,
    CASE
        WHEN r.stage = 'RequestReceived' OR (r.responseStatus.code IS NULL AND r.stage IS DISTINCT FROM 'Panic') THEN 'unknown'
        WHEN r.responseStatus.code IN (401, 403) THEN 'denied'
        WHEN r.responseStatus.code IN (408, 504) THEN 'timeout'
        WHEN r.responseStatus.code < 400 THEN 'success'
        ELSE 'failure'
    END AS outcome,
    CASE r.annotations."authorization.k8s.io/decision" WHEN 'allow' THEN 'allow' WHEN 'forbid' THEN 'deny' END AS decision_effect,
    text_of(r.annotations."authorization.k8s.io/reason") AS decision_policy,
    coalesce(text_of(r.user.username), 'unknown') AS agent_id,
    cluster AS agent_issuer,
    r.user.extra."authentication.kubernetes.io/pod-uid"[1] AS agent_instance,
    text_of(r.user.username) AS actor_id,
    CASE WHEN text_of(r.user.username) IS NOT NULL THEN cluster END AS actor_issuer,
    CASE WHEN r.impersonatedUser.username IS NOT NULL THEN 'impersonation' ELSE 'none' END AS actor_convention,
    text_of(on_behalf_of) AS subject_id,
    CASE WHEN text_of(on_behalf_of) IS NOT NULL THEN cluster END AS subject_issuer,
    CASE
        WHEN on_behalf_of LIKE 'system:serviceaccount:%' THEN 'service_account'
        WHEN on_behalf_of LIKE 'system:%' AND on_behalf_of <> 'system:anonymous' THEN 'workload'
        -- A name alone tells no person from a machine.
        WHEN text_of(on_behalf_of) IS NOT NULL THEN 'unknown'
    END AS subject_kind,
    -- Only a service account's token is the cluster's own; another's `jti` is its provider's.
    CASE WHEN held LIKE 'JTI=%' AND r.user.username LIKE 'system:serviceaccount:%' THEN cluster
        WHEN held IS NULL AND r.user.extra.accessKeyId[1] IS NOT NULL THEN 'aws' END AS credential_issuer,
    CASE WHEN held LIKE 'JTI=%' AND r.user.username LIKE 'system:serviceaccount:%' THEN 'k8s_credential_id'
        WHEN held LIKE 'JTI=_%' THEN 'jti' WHEN held LIKE 'X509SHA256=%' THEN 'x5t_s256'
        WHEN held IS NULL AND r.user.extra.accessKeyId[1] IS NOT NULL THEN 'access_key_id' END AS credential_kind,
    CASE WHEN held LIKE 'JTI=%' AND r.user.username LIKE 'system:serviceaccount:%' THEN held
        WHEN held LIKE 'JTI=_%' THEN substr(held, 5) WHEN held LIKE 'X509SHA256=%' THEN thumbprint_of(substr(held, 12))
        WHEN held IS NULL THEN r.user.extra.accessKeyId[1] END AS credential_id,
    CASE WHEN r.user.username LIKE 'system:serviceaccount:%'
        THEN split_part(r.user.username, ':', 3) || '/' || r.user.extra."authentication.kubernetes.io/pod-name"[1] END AS workload_id,
    -- All before the last are what the client or a proxy wrote.
    r.sourceIPs[-1] AS src_ip,
    r.userAgent AS user_agent,
    coalesce(args_hash, CASE WHEN contains(r.requestURI, '?') THEN sha256(split_part(r.requestURI, '?', 2)) END) AS args_hash,
    result_hash,
    ext_of(
        ['level', 'stage', 'reason', 'code', 'uid', 'groups', 'impersonatedUid', 'impersonatedGroups', 'impersonationConstraint',
            'podName', 'podUid', 'nodeName', 'arn', 'canonicalArn', 'sessionName', 'target_id'],
        [r.level, r.stage, r.responseStatus.reason, CAST(r.responseStatus.code AS VARCHAR), r.user.uid, array_to_string(r.user.groups, ' '),
            r.impersonatedUser.uid, array_to_string(r.impersonatedUser.groups, ' '), r.authenticationMetadata.impersonationConstraint,
            r.user.extra."authentication.kubernetes.io/pod-name"[1], r.user.extra."authentication.kubernetes.io/pod-uid"[1],
            r.user.extra."authentication.kubernetes.io/node-name"[1], r.user.extra.arn[1], r.user.extra.canonicalArn[1],
            r.user.extra.sessionName[1],
            -- To whom a binding gives its role.
            CASE WHEN changes AND r.objectRef.resource SIMILAR TO '(cluster)?rolebindings' THEN array_to_string(list_transform(
                r.requestObject.subjects, lambda one: coalesce(CASE WHEN one.kind = 'ServiceAccount'
                    THEN 'system:serviceaccount:' || text_of(one.namespace) || ':' || one.name
                    END, one.name)), ' ') END]
    ) AS ext
FROM judged
WHERE event_time IS NOT NULL AND doing <> ''
