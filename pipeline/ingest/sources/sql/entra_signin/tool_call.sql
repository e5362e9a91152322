-- One request to Graph, or one record of the directory's audit log.
WITH record AS (
    SELECT *,
        r.properties AS p,
        r.kind = 'graph' AS is_graph,
        lower(coalesce(text_of(r.properties.aadTenantId), nullif(regexp_extract(r.resourceId, '(?i)^/tenants/([^/]+)', 1), ''),
            text_of(r.tenantId), $instance)) AS directory,
        upper(coalesce(text_of(r.properties.requestMethod), '')) AS method,
        regexp_replace(regexp_replace(r.properties.requestUri, '^[A-Za-z]+://[^/]*', ''), '[?#].*$', '') AS bare,
        -- An argument in quotes may be what somebody searched for; one with a question mark lost its end.
        regexp_replace(regexp_replace(replace(bare, '%27', ''''), '(?:''[^'']*'')+', '''{id}''', 'g'),
            '([(=])''[^'']*$', '\1''{id}''') AS path,
        TRY_CAST(r.properties.responseStatusCode AS INTEGER) AS status,
        lower(coalesce(r.properties.result, '')) AS result,
        coalesce(text_of(r.properties.activityDisplayName), text_of(r.operationName), 'unknown') AS activity
    FROM records
    WHERE r.kind IN ('graph', 'audit')
),
read AS (
    SELECT *,
        coalesce('entra:' || directory, '') AS issuer,
        coalesce(moment_of(p.activityDateTime), moment_of(p.timeGenerated), moment_of(r.time), moment_of(p.createdDateTime)) AS happened,
        -- Ids and names out of the path, so that equal requests are equal.
        CASE WHEN is_graph THEN concat_ws(' ', nullif(method, ''), regexp_replace(regexp_replace(regexp_replace(
            path, '/[^/]*@[^/]*', '/{id}', 'g'),
            '/[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}', '/{id}', 'g'),
            '/(?:[0-9]+|[A-Za-z_=!-]*[0-9][A-Za-z0-9_=!-]{15,})(/|$)', '/{id}\1', 'g'))
            ELSE activity END AS does,
        CASE
            WHEN is_graph THEN text_of(p.appId)
            WHEN p.initiatedBy.app IS NOT NULL AND coalesce(text_of(p.initiatedBy.app.appId), text_of(p.initiatedBy.app.servicePrincipalId), text_of(p.initiatedBy.app.displayName)) IS NOT NULL
                THEN coalesce(text_of(p.initiatedBy.app.appId), text_of(p.initiatedBy.app.servicePrincipalId), text_of(p.initiatedBy.app.displayName))
            ELSE coalesce(text_of(p.initiatedBy.user.id), text_of(p.initiatedBy.user.userPrincipalName))
        END AS who,
        CASE
            WHEN NOT is_graph THEN NULL
            ELSE coalesce(text_of(p.userId), CASE WHEN p.C_Idtyp = 'user' THEN text_of(p.userPrincipalObjectID) END)
        END AS person,
        CASE
            WHEN NOT is_graph THEN NULL
            ELSE coalesce(text_of(p.servicePrincipalId), CASE WHEN p.C_Idtyp = 'app' THEN text_of(p.userPrincipalObjectID) END)
        END AS service
    FROM record
)
SELECT
    part,
    coalesce(CASE WHEN is_graph THEN text_of(p.requestId) END, text_of(p.id), sha256) AS event_id,
    concat_ws(':', CASE WHEN is_graph THEN 'entra.graph' ELSE 'entra.audit' END, directory) AS source,
    happened AS event_time,
    CASE WHEN is_graph THEN 'resource_server' ELSE 'idp' END AS observer,
    $tenant_id AS tenant_id,
    'entra:' || directory AS trust_domain,
    coalesce(text_of(p.sessionId), text_of(p.C_Sid)) AS session_id,
    coalesce(text_of(does), 'unknown') AS tool_name,
    CASE WHEN is_graph THEN 'https://graph.microsoft.com' ELSE coalesce(text_of(p.loggedByService), 'Entra') END AS tool_server,
    CASE WHEN is_graph THEN 'http' ELSE 'cloud_api' END AS tool_protocol,
    coalesce(text_of(does), 'unknown') AS operation,
    CASE
        WHEN NOT is_graph THEN CASE WHEN result IN ('success', 'failure', 'timeout') THEN result ELSE 'unknown' END
        WHEN status IN (401, 403) THEN 'denied'
        WHEN status IN (408, 504) THEN 'timeout'
        WHEN status BETWEEN 100 AND 399 THEN 'success'
        WHEN status >= 400 THEN 'failure'
        ELSE 'unknown'
    END AS outcome,
    CASE WHEN is_graph AND outcome = 'denied' THEN 'deny' WHEN is_graph AND outcome = 'success' THEN 'allow' END AS decision_effect,
    CASE
        WHEN NOT is_graph THEN CASE
            WHEN regexp_matches(activity, '(?i)credential|secret|certificat|role|permission|polic|consent|grant|owner|group member|member (to|from) group|authentication|federation|domain|application|service principal|password|privilege|agent') THEN 'admin_iam'
            WHEN p.operationType = 'Delete' THEN 'delete'
            WHEN p.operationType IN ('Add', 'Create', 'Update', 'Assign') THEN 'write' END
        WHEN method = 'GET' OR method = 'POST' AND regexp_matches(path, '(?i)/(getByIds|getMember(Groups|Objects)|checkMember(Groups|Objects)|search/query|validateProperties|microsoft[.]graph[.]delta)$') THEN 'read'
        WHEN method NOT IN ('POST', 'PUT', 'PATCH', 'DELETE') OR path LIKE '%/$batch' THEN NULL
        WHEN regexp_matches(path, '(?i)roleManagement|directoryRoles|appRoleAssign|oauth2PermissionGrants|/(add|remove)(Password|Key)$|/owners|federatedIdentityCredentials|conditionalAccess|/policies|/groups/[^/]+/members|authentication/|agentIdentit') THEN 'admin_iam'
        WHEN regexp_matches(path, '(?i)/(sendMail|send|reply|replyAll|forward|invitations)$') THEN 'external_send'
        WHEN method = 'DELETE' THEN 'delete'
        ELSE 'write'
    END AS action_class,
    CASE WHEN is_graph THEN text_of(path)
        WHEN len(p.targetResources) > 0 THEN nullif(concat_ws(':', text_of(p.targetResources[1].type), coalesce(text_of(p.targetResources[1].id), text_of(p.targetResources[1].displayName))), '') END AS resource,
    event_id AS call_id,
    coalesce(who, person, service, 'unknown') AS agent_id,
    CASE WHEN coalesce(who, person, service) IS NOT NULL THEN issuer END AS agent_issuer,
    who AS actor_id,
    CASE WHEN who IS NOT NULL THEN issuer END AS actor_issuer,
    CASE WHEN is_graph AND who IS NOT NULL THEN 'client_id' ELSE 'none' END AS actor_convention,
    coalesce(person, service) AS subject_id,
    CASE WHEN subject_id IS NOT NULL THEN issuer END AS subject_issuer,
    -- A user may be a person or an agent's own account: only the sign-in tells.
    CASE WHEN regexp_matches(p.xms_sub_fct, '\b13\b') THEN 'agent_user' WHEN person IS NULL AND service IS NOT NULL THEN 'service_account' END AS subject_kind,
    CASE WHEN is_graph AND p.signInActivityId <> '' THEN issuer END AS credential_issuer,
    CASE WHEN is_graph AND p.signInActivityId <> '' THEN 'uti' END AS credential_kind,
    CASE WHEN is_graph THEN text_of(p.signInActivityId) END AS credential_id,
    -- Only Graph writes this log, under this one name.
    CASE WHEN is_graph THEN ['00000003-0000-0000-c000-000000000000'] END AS presented_audience,
    CASE WHEN is_graph THEN list_sort(list_distinct(list_concat(coalesce(words_of(p.scopes), []), coalesce(words_of(p.roles), [])))) END AS presented_scopes,
    coalesce(text_of(p.ipAddress), text_of(r.callerIpAddress), text_of(p.initiatedBy.user.ipAddress)) AS src_ip,
    text_of(p.userAgent) AS user_agent,
    ext_of(
        ['category', 'correlationId', 'operationId', 'clientRequestId', 'clientAuthMethod', 'tokenIssuedAt', 'responseStatusCode', 'servicePrincipalId',
            'initiatorName', 'initiatorServicePrincipalId', 'initiatorAgentType', 'targetDisplayName', 'resultReason', 'xms_par_app_azp', 'record_sha256'],
        [coalesce(r.category, r.type, p.category), coalesce(p.correlationId, r.correlationId), p.operationId, p.clientRequestId, p.clientAuthMethod, p.tokenIssuedAt, p.responseStatusCode, p.servicePrincipalId,
            coalesce(p.initiatedBy.user.userPrincipalName, p.initiatedBy.app.displayName), p.initiatedBy.app.servicePrincipalId, coalesce(p.initiatedBy.app.agentType, p.initiatedBy.user.agentType),
            p.targetResources[1].displayName, p.resultReason, p.xms_par_app_azp, sha256]
    ) AS ext
FROM read
WHERE happened IS NOT NULL
