-- Credentials of applications that an audit record adds or removes, and client secrets in use.
WITH record AS (
    SELECT *,
        r.properties AS p,
        lower(coalesce(text_of(r.properties.aadTenantId), nullif(regexp_extract(r.resourceId, '(?i)^/tenants/([^/]+)', 1), ''),
            text_of(r.tenantId), text_of(r.properties.resourceTenantId), $instance)) AS directory,
        coalesce(text_of(r.properties.status.errorCode), text_of(r.properties.resultType), text_of(r.resultType)) AS code,
        list_filter(r.properties.targetResources[1].modifiedProperties, lambda one: one.displayName = 'KeyDescription')[1] AS keys
    FROM records
    WHERE r.kind IN ('audit', 'sign_in')
),
held AS (
    SELECT *,
        coalesce(regexp_extract_all(keys.oldValue, 'KeyIdentifier=[0-9A-Fa-f-]{36},KeyType=[A-Za-z0-9]+'), []) AS before,
        coalesce(regexp_extract_all(keys.newValue, 'KeyIdentifier=[0-9A-Fa-f-]{36},KeyType=[A-Za-z0-9]+'), []) AS after
    FROM record
),
changed AS (
    SELECT *, unnest(list_concat(
        CASE WHEN r.kind = 'audit' AND lower(p.result) = 'success' THEN list_concat(
            list_transform(list_filter(after, lambda one: NOT list_contains(before, one)), lambda one: {'does': 'create', 'key': one}),
            list_transform(list_filter(before, lambda one: NOT list_contains(after, one)), lambda one: {'does': 'delete', 'key': one})
        ) END,
        CASE WHEN r.kind = 'sign_in' AND lower(code) IN ('0', 'success') AND lower(p.clientCredentialType) = 'clientsecret' AND p.servicePrincipalCredentialKeyId <> ''
            THEN [{'does': 'use', 'key': concat('KeyIdentifier=', p.servicePrincipalCredentialKeyId, ',KeyType=Password')}] END
    )) AS change
    FROM held
),
named AS (
    SELECT *, change.does AS does, change.key AS key,
        coalesce(moment_of(p.activityDateTime), moment_of(p.createdDateTime), moment_of(p.timeGenerated), moment_of(r.time)) AS happened
    FROM changed
)
SELECT
    part,
    coalesce(text_of(p.id), sha256) || CASE WHEN does <> 'use' THEN '/' || does || '/' || split_part(split_part(key, '=', 2), ',', 1) ELSE '' END AS event_id,
    concat_ws(':', CASE WHEN does = 'use' THEN 'entra.signin' ELSE 'entra.audit' END, directory) AS source,
    happened AS event_time,
    'idp' AS observer,
    $tenant_id AS tenant_id,
    'entra:' || directory AS trust_domain,
    does AS op,
    split_part(split_part(key, '=', 2), ',', 1) AS secret_id,
    CASE split_part(key, '=', 3) WHEN 'Password' THEN 'client_secret' WHEN 'AsymmetricX509Cert' THEN 'x509' ELSE 'other' END AS secret_kind,
    'entra' AS store,
    CASE WHEN does = 'use' THEN text_of(p.appId) 
        -- The app's id where it stands, for that is what signs in; else the object's.
        ELSE coalesce(text_of(list_filter(p.additionalDetails, lambda one: one.key = 'AppId')[1].value), text_of(p.targetResources[1].id)) END AS bound_identity_id,
    CASE WHEN bound_identity_id IS NOT NULL THEN 'entra:' || directory END AS bound_identity_issuer,
    CASE WHEN does = 'use' THEN text_of(p.appId)
        ELSE coalesce(text_of(p.initiatedBy.app.appId), text_of(p.initiatedBy.app.servicePrincipalId), text_of(p.initiatedBy.user.id), text_of(p.initiatedBy.user.userPrincipalName)) END AS accessed_by_id,
    CASE WHEN accessed_by_id IS NOT NULL THEN 'entra:' || directory END AS accessed_by_issuer,
    CASE WHEN does = 'create' THEN happened END AS created_at,
    CASE WHEN does = 'use' THEN happened END AS last_used_at,
    ext_of(['activityDisplayName', 'targetType', 'targetDisplayName', 'correlationId'],
        [p.activityDisplayName, p.targetResources[1].type, p.targetResources[1].displayName, coalesce(p.correlationId, r.correlationId)]) AS ext
FROM named
WHERE happened IS NOT NULL
