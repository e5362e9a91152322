-- One sign-in, or one consent to an application that the audit log tells of.
WITH sign_in AS (
    SELECT *,
        r.properties AS p,
        lower(concat_ws(' ', r.category, r.type, array_to_string(r.properties.signInEventTypes, ' '))) AS log,
        lower(coalesce(text_of(r.properties.aadTenantId), nullif(regexp_extract(r.resourceId, '(?i)^/tenants/([^/]+)', 1), ''),
            text_of(r.tenantId), text_of(r.properties.resourceTenantId), $instance)) AS directory,
        coalesce(text_of(r.properties.status.errorCode), text_of(r.properties.resultType), text_of(r.resultType)) AS code
    FROM records
    WHERE r.kind = 'sign_in'
),
told AS (
    SELECT *,
        regexp_matches(log, 'serviceprincipal|managedidentity') AS is_app,
        coalesce(CASE WHEN code IS NOT NULL THEN lower(code) NOT IN ('0', 'success') END, p.conditionalAccessStatus = 'failure', false) AS failed,
        coalesce('entra:' || directory, '') AS issuer,
        coalesce(moment_of(p.createdDateTime), moment_of(r.time)) AS happened,
        coalesce(p.agent.agentSubjectType = 'agentIDuser', false) OR coalesce(regexp_matches(p.xms_sub_fct, '\b13\b'), false) AS is_agent_user,
        coalesce(nullif(p.agent.agentType, 'notAgentic') <> '', false) OR coalesce(regexp_matches(p.xms_act_fct, '\b1[13]\b'), false) AS is_agent,
        lower(p.clientCredentialType) = 'clientsecret' AND p.servicePrincipalCredentialKeyId <> '' AS by_secret
    FROM sign_in
),
consent AS (
    SELECT *,
        r.properties AS p,
        lower(coalesce(text_of(r.properties.aadTenantId), nullif(regexp_extract(r.resourceId, '(?i)^/tenants/([^/]+)', 1), ''), text_of(r.tenantId), $instance)) AS directory,
        lower(r.properties.activityDisplayName) AS activity,
        list_transform(r.properties.targetResources[1].modifiedProperties,
            lambda one: {'name': one.displayName, 'value': trim(coalesce(nullif(one.newValue, ''), one.oldValue), '" ')}) AS changes
    FROM records
    WHERE r.kind = 'audit' AND regexp_matches(r.properties.activityDisplayName, '(?i)^(consent to application|(add|remove) delegated permission grant)$')
),
agreed AS (
    SELECT *,
        coalesce(moment_of(p.activityDateTime), moment_of(r.time)) AS happened,
        list_filter(changes, lambda one: one.name = 'ConsentAction.Permissions')[1].value AS permissions,
        coalesce(list_filter(list_transform(regexp_extract_all(permissions, '\bPrincipalId: ([^],]+)', 1), lambda one: trim(one)), lambda one: one <> '')[-1],
            nullif(list_filter(changes, lambda one: one.name = 'DelegatedPermissionGrant.PrincipalId')[1].value, '')) AS principal,
        -- A grant is told of the resource; the client that it is for stands among the changes.
        coalesce(nullif(list_filter(changes, lambda one: one.name = 'ServicePrincipal.AppId')[1].value, ''),
            nullif(list_filter(changes, lambda one: one.name = 'ServicePrincipal.ObjectID')[1].value, '')) AS granted_to,
        list_filter(changes, lambda one: one.name = 'DelegatedPermissionGrant.Scope')[1].value AS delegated,
        list_filter(changes, lambda one: one.name = 'DelegatedPermissionGrant.ConsentType')[1].value AS delegated_for,
        list_filter(changes, lambda one: one.name = 'ConsentContext.OnBehalfOfAll')[1].value AS for_all,
        list_filter(changes, lambda one: one.name = 'TargetId.ServicePrincipalNames')[1].value AS names
    FROM consent
),
-- The client secret that was presented is a credential too, used by its app.
shown AS (
    SELECT *, false AS is_secret FROM told
    UNION ALL
    SELECT *, true FROM told WHERE by_secret AND NOT failed
)
SELECT
    part,
    coalesce(text_of(p.id), sha256) || CASE WHEN is_secret THEN '/secret' ELSE '' END AS event_id,
    concat_ws(':', 'entra.signin', directory) AS source,
    happened AS event_time,
    'idp' AS observer,
    $tenant_id AS tenant_id,
    'entra:' || directory AS trust_domain,
    text_of(p.sessionId) AS session_id,
    CASE WHEN is_secret THEN 'use' ELSE 'issue' END AS op,
    CASE WHEN failed THEN 'failure' ELSE 'success' END AS outcome,
    CASE WHEN failed THEN coalesce(code, 'conditionalAccess') END AS error,
    -- A sign-in that failed made no token.
    CASE WHEN NOT failed THEN issuer END AS credential_issuer,
    -- A success whose token is not named gets an id of ours: that of the record.
    CASE WHEN failed THEN NULL WHEN is_secret THEN 'secret_version' WHEN p.uniqueTokenIdentifier <> '' THEN 'uti' ELSE 'local' END AS credential_kind,
    CASE WHEN failed THEN NULL WHEN is_secret THEN text_of(p.servicePrincipalCredentialKeyId)
        ELSE coalesce(text_of(p.uniqueTokenIdentifier), text_of(p.id), sha256) END AS credential_id,
    CASE WHEN credential_kind = 'uti' AND directory IS NOT NULL THEN [
        {'issuer': 'https://sts.windows.net/' || directory || '/', 'kind': 'uti', 'id': credential_id},
        {'issuer': 'https://login.microsoftonline.com/' || directory || '/v2.0', 'kind': 'uti', 'id': credential_id}
    ] END AS credential_aliases,
    CASE WHEN is_secret THEN 'client_secret' END AS token_type,
    CASE
        WHEN is_secret THEN NULL
        WHEN is_app THEN 'client_credentials'
        WHEN p.authenticationProtocol = 'deviceCode' THEN 'urn:ietf:params:oauth:grant-type:device_code'
        WHEN p.authenticationProtocol = 'ropc' THEN 'password'
        WHEN lower(p.isInteractive) = 'true' AND NOT is_agent_user THEN 'interactive'
    END AS grant_type,
    text_of(p.appId) AS client_id,
    CASE WHEN is_app THEN text_of(p.servicePrincipalId) ELSE coalesce(text_of(p.userId), text_of(p.userPrincipalName)) END AS subject_id,
    CASE WHEN subject_id IS NOT NULL THEN issuer END AS subject_issuer,
    CASE
        WHEN subject_id IS NULL THEN NULL
        WHEN is_agent_user THEN 'agent_user'
        WHEN is_app AND is_agent THEN 'agent'
        WHEN log LIKE '%managedidentity%' THEN 'workload'
        WHEN is_app THEN 'service_account'
        ELSE 'human'
    END AS subject_kind,
    text_of(p.appId) AS actor_id,
    CASE WHEN actor_id IS NOT NULL THEN issuer END AS actor_issuer,
    CASE WHEN actor_id IS NOT NULL THEN 'client_id' ELSE 'none' END AS actor_convention,
    -- The log does not tell what the token allows.
    false AS scope_known,
    list_filter([coalesce(text_of(p.resourceIdentity), CASE WHEN p.resourceId NOT LIKE '/%' THEN text_of(p.resourceId) END)], lambda one: one IS NOT NULL AND NOT is_secret) AS audience,
    CASE WHEN NOT failed AND NOT is_secret THEN happened END AS issued_at,
    CASE WHEN NOT failed AND NOT is_app AND NOT is_agent_user AND lower(p.isInteractive) = 'true' THEN happened END AS auth_time,
    list_filter([
        CASE WHEN by_secret AND NOT is_secret THEN {'role': 'source', 'issuer': issuer, 'kind': 'secret_version', 'id': text_of(p.servicePrincipalCredentialKeyId)} END,
        CASE WHEN p.managedServiceIdentity.federatedTokenId <> '' AND NOT is_secret THEN
            {'role': 'assertion', 'issuer': text_of(p.managedServiceIdentity.federatedTokenIssuer), 'kind': 'jti', 'id': text_of(p.managedServiceIdentity.federatedTokenId)} END
    ], lambda one: one IS NOT NULL) AS parents,
    CASE WHEN p.homeTenantId <> '' AND p.resourceTenantId <> '' AND lower(p.homeTenantId) <> lower(p.resourceTenantId)
        THEN 'entra:' || lower(p.homeTenantId) END AS from_trust_domain,
    CASE WHEN from_trust_domain IS NOT NULL THEN 'entra:' || lower(p.resourceTenantId) END AS to_trust_domain,
    ext_of(
        ['category', 'correlationId', 'appDisplayName', 'userPrincipalName', 'servicePrincipalName', 'resourceDisplayName', 'authenticationProtocol', 'incomingTokenType',
            'clientCredentialType', 'servicePrincipalCredentialKeyId', 'servicePrincipalCredentialThumbprint', 'federatedCredentialId',
            'uniqueTokenIdentifier', 'conditionalAccessStatus', 'failureReason', 'agentType', 'agentSubjectType', 'agentSubjectParentId', 'parentAppId',
            'xms_act_fct', 'xms_sub_fct', 'xms_par_app_azp', 'isInteractive', 'ipAddress', 'userAgent', 'record_sha256'],
        [coalesce(r.category, r.type), coalesce(p.correlationId, r.correlationId), p.appDisplayName, p.userPrincipalName, p.servicePrincipalName, p.resourceDisplayName, p.authenticationProtocol,
            p.incomingTokenType, p.clientCredentialType, p.servicePrincipalCredentialKeyId, p.servicePrincipalCredentialThumbprint, p.federatedCredentialId,
            CASE WHEN failed THEN p.uniqueTokenIdentifier END, p.conditionalAccessStatus, p.status.failureReason, p.agent.agentType, p.agent.agentSubjectType, p.agent.agentSubjectParentId, p.agent.parentAppId,
            p.xms_act_fct, p.xms_sub_fct, p.xms_par_app_azp, p.isInteractive, coalesce(p.ipAddress, r.callerIpAddress), p.userAgent, sha256]
    ) AS ext
FROM shown
WHERE happened IS NOT NULL
UNION ALL BY NAME
SELECT
    part,
    coalesce(text_of(p.id), sha256) AS event_id,
    concat_ws(':', 'entra.audit', directory) AS source,
    happened AS event_time,
    'idp' AS observer,
    $tenant_id AS tenant_id,
    'entra:' || directory AS trust_domain,
    CASE WHEN activity LIKE 'remove%' THEN 'consent_revoke' ELSE 'consent_grant' END AS op,
    CASE WHEN lower(p.result) = 'success' THEN 'success' ELSE 'failure' END AS outcome,
    CASE WHEN outcome = 'failure' THEN coalesce(text_of(p.resultReason), text_of(p.result)) END AS error,
    nullif(list_filter(regexp_extract_all(permissions, '[[]Id: ([^],]+)', 1), lambda one: one <> '')[-1], '') AS consent_id,
    -- A consent is no token: apart from those, whose issue can be missing.
    CASE WHEN outcome = 'success' THEN coalesce('entra:' || directory || '/consents', '') END AS credential_issuer,
    CASE WHEN outcome = 'success' THEN 'local' END AS credential_kind,
    CASE WHEN outcome = 'success' THEN coalesce(consent_id, text_of(p.id), sha256) END AS credential_id,
    'consent' AS token_type,
    -- By its app id, as it signs in.
    coalesce(granted_to, nullif(split_part(names, ';', 1), ''), text_of(p.targetResources[1].id)) AS client_id,
    -- One for everybody is nobody's own; one that names nobody is of who consents, but not of who writes a grant.
    CASE WHEN NOT regexp_matches(concat_ws(' ', permissions, delegated_for,
            CASE WHEN lower(for_all) = 'true' THEN 'AllPrincipals' END), 'AllPrincipals')
        THEN coalesce(principal, CASE WHEN activity = 'consent to application' THEN text_of(p.initiatedBy.user.id) END) END AS subject_id,
    CASE WHEN subject_id IS NOT NULL THEN coalesce('entra:' || directory, '') END AS subject_issuer,
    CASE WHEN subject_id IS NOT NULL THEN 'human' END AS subject_kind,
    client_id AS actor_id,
    CASE WHEN client_id IS NOT NULL THEN coalesce('entra:' || directory, '') END AS actor_issuer,
    CASE WHEN client_id IS NOT NULL THEN 'client_id' ELSE 'none' END AS actor_convention,
    list_sort(list_distinct(list_filter(string_split_regex(concat_ws(' ',
        array_to_string(regexp_extract_all(permissions, 'Scope: ([^],]*)', 1), ' '),
        delegated), '\s+'), lambda one: one <> ''))) AS scopes,
    len(scopes) > 0 AS scope_known,
    list_filter([CASE WHEN granted_to IS NOT NULL THEN coalesce(nullif(regexp_extract(names, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'), ''),
        text_of(p.targetResources[1].id)) END], lambda one: one IS NOT NULL) AS audience,
    ext_of(['activityDisplayName', 'initiatorName', 'targetDisplayName', 'correlationId', 'record_sha256'],
        [p.activityDisplayName, p.initiatedBy.user.userPrincipalName, p.targetResources[1].displayName, coalesce(p.correlationId, r.correlationId), sha256]) AS ext
FROM agreed
WHERE happened IS NOT NULL
