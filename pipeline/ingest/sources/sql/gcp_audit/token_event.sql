-- Tokens that Google hands out, and keys of service accounts that are made or deleted.
WITH entry AS (
    SELECT *,
        coalesce(text_of(r.protoPayload.authenticationInfo.principalEmail),
            regexp_replace(text_of(r.protoPayload.authenticationInfo.principalSubject), '^(serviceAccount|user):', '')) AS who,
        list_filter(list_transform(r.protoPayload.authenticationInfo.serviceAccountDelegationInfo, lambda one: coalesce(
            text_of(one.firstPartyPrincipal.principalEmail),
            regexp_replace(text_of(coalesce(one.principalSubject, one.firstPartyPrincipal.principalSubject)), '^(serviceAccount|user):', ''),
            text_of(one.thirdPartyPrincipal.thirdPartyClaims.sub))), lambda one: one IS NOT NULL) AS behind,
        coalesce(len(r.protoPayload.authenticationInfo.serviceAccountDelegationInfo), 0) AS delegations,
        regexp_extract(r.protoPayload.methodName, '[A-Za-z]+$') AS method,
        coalesce(
            text_of(r.resource.labels['email_id']),
            nullif(regexp_extract(r.protoPayload.request.name, 'serviceAccounts/([^/]+)', 1), ''),
            nullif(regexp_extract(r.protoPayload.resourceName, 'serviceAccounts/([^/]+)', 1), '')) AS account,
        list_transform(r.protoPayload.request.delegates, lambda one: regexp_replace(one, '^.*serviceAccounts/', '')) AS delegates,
        nullif(regexp_extract(concat_ws(' ', r.protoPayload.response.name, r.protoPayload.request.name, r.protoPayload.resourceName), '/keys/([^/ ]+)', 1), '') AS made_key,
        text_of(regexp_replace(r.protoPayload.authenticationInfo.serviceAccountKeyName, '^.*/keys/', '')) AS caller_key,
        list_transform(r.protoPayload.authorizationInfo, lambda one: lower(one.granted)) AS granted,
        coalesce(r.protoPayload.status.code <> 0, false)
            OR coalesce(list_contains(granted, 'false') AND NOT list_contains(granted, 'true'), false) AS failed,
        coalesce(moment_of(r.timestamp), moment_of(r.protoPayload.requestMetadata.requestAttributes.time), moment_of(r.receiveTimestamp)) AS happened,
        coalesce(
            nullif(regexp_replace(regexp_extract(r.logName, '^(.+)/logs/', 1), '^projects/', ''), ''),
            text_of(r.resource.labels['project_id']), $instance) AS project
    FROM records
    WHERE regexp_matches(r.protoPayload.methodName, '(GenerateAccessToken|GenerateIdToken|SignJwt|ExchangeToken|(Create|Upload|Delete)ServiceAccountKey)$')
),
made AS (
    SELECT *,
        method LIKE '%ServiceAccountKey' AS is_key,
        method = 'ExchangeToken' AS is_exchange,
        coalesce(behind[1], who) AS origin,
        -- An account that signs for itself stands for nobody else.
        account IS NOT DISTINCT FROM who AND len(coalesce(delegates, [])) = 0 AND delegations = 0 AS for_itself
    FROM entry
    WHERE NOT (method LIKE '%ServiceAccountKey' AND (failed OR made_key IS NULL))
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
    CASE WHEN method = 'DeleteServiceAccountKey' THEN 'revoke' WHEN is_exchange THEN 'exchange' ELSE 'issue' END AS op,
    CASE WHEN failed THEN 'failure' ELSE 'success' END AS outcome,
    CASE r.protoPayload.status.code
        WHEN 3 THEN 'INVALID_ARGUMENT' WHEN 5 THEN 'NOT_FOUND' WHEN 7 THEN 'PERMISSION_DENIED' WHEN 9 THEN 'FAILED_PRECONDITION'
        WHEN 16 THEN 'UNAUTHENTICATED' WHEN 0 THEN CASE WHEN failed THEN 'PERMISSION_DENIED' END
        ELSE coalesce(CAST(r.protoPayload.status.code AS VARCHAR), CASE WHEN failed THEN 'PERMISSION_DENIED' END) END AS error,
    CASE WHEN NOT failed THEN 'gcp' END AS credential_issuer,
    -- Google's logs name no token; the entry's own id stands for the one that it tells of.
    CASE WHEN failed THEN NULL WHEN is_key THEN 'api_key_id' ELSE 'local' END AS credential_kind,
    CASE WHEN failed THEN NULL WHEN is_key THEN made_key ELSE coalesce(text_of(r.insertId), sha256) END AS credential_id,
    CASE method WHEN 'GenerateAccessToken' THEN 'access_token' WHEN 'GenerateIdToken' THEN 'id_token' WHEN 'SignJwt' THEN 'jwt'
        WHEN 'ExchangeToken' THEN 'access_token' ELSE 'gcp_sa_key' END AS token_type,
    CASE
        WHEN method = 'DeleteServiceAccountKey' THEN NULL
        WHEN is_exchange THEN text_of(r.protoPayload.request.grantType)
        ELSE lower(regexp_replace(method, '([a-z])([A-Z])', '\1_\2', 'g'))
    END AS grant_type,
    -- On whose behalf: the first identity of the delegation, else the caller itself.
    CASE WHEN is_key THEN NULL WHEN is_exchange THEN coalesce(text_of(r.protoPayload.metadata.mapped_principal), origin) ELSE origin END AS subject_id,
    CASE WHEN subject_id IS NOT NULL THEN 'gcp' END AS subject_issuer,
    CASE
        WHEN subject_id IS NULL THEN NULL
        WHEN subject_id LIKE '%gserviceaccount.com' THEN 'service_account'
        WHEN subject_id LIKE '%@prod.google.com' OR subject_id LIKE '%/workloadIdentityPools/%' THEN 'workload'
        WHEN subject_id LIKE '%/workforcePools/%' OR subject_id NOT LIKE '%:%' AND subject_id LIKE '%@%' THEN 'human'
        ELSE 'unknown'
    END AS subject_kind,
    CASE WHEN method = 'DeleteServiceAccountKey' THEN NULL WHEN is_exchange THEN subject_id ELSE account END AS actor_id,
    CASE WHEN actor_id IS NOT NULL THEN 'gcp' END AS actor_issuer,
    CASE WHEN is_key OR is_exchange OR for_itself THEN 'none' ELSE 'impersonation' END AS actor_convention,
    -- The account that the token is of, those in between backwards, then whoever the caller was.
    CASE WHEN NOT is_key AND NOT is_exchange AND NOT for_itself THEN list_transform(
        list_filter(
            list_concat([account], list_reverse(coalesce(delegates, [])), CASE WHEN len(behind) > 0 THEN [who] ELSE [] END, list_reverse(behind[2:])),
            lambda one: one IS NOT NULL),
        lambda one: {'issuer': 'gcp', 'subject': one}) END AS act_chain,
    CASE WHEN len(behind) < delegations THEN 'delegation_without_principal' END AS act_malformed_reason,
    CASE WHEN NOT is_key THEN list_filter(r.protoPayload.request.scope, lambda one: one <> '') END AS requested_scopes,
    -- The service grants what was asked for, or nothing.
    CASE WHEN NOT failed THEN requested_scopes END AS scopes,
    len(scopes) > 0 IS TRUE AS scope_known,
    -- What a token may do is up to IAM's policies too, whose permissions have other names.
    CASE WHEN len(requested_scopes) > 0 THEN 'policy' END AS scope_dialect,
    CASE WHEN r.protoPayload.request.audience <> '' THEN [r.protoPayload.request.audience] END AS audience,
    CASE WHEN NOT failed AND method <> 'DeleteServiceAccountKey' THEN happened END AS issued_at,
    CASE
        WHEN failed OR method = 'DeleteServiceAccountKey' THEN NULL
        WHEN is_key AND r.protoPayload.response.valid_before_time.seconds < 253402300799 THEN TRY(to_timestamp(r.protoPayload.response.valid_before_time.seconds))
        ELSE TRY(happened + to_seconds(TRY_CAST(nullif(regexp_extract(r.protoPayload.request.lifetime, '^([0-9]{1,9})(?:[.][0-9]+)?s$', 1), '') AS BIGINT)))
    END AS expires_at,
    is_key AND method <> 'DeleteServiceAccountKey' AND coalesce(r.protoPayload.response.valid_before_time.seconds, 253402300799) >= 253402300799 AS never_expires,
    CASE WHEN caller_key IS NOT NULL AND caller_key IS DISTINCT FROM made_key AND method <> 'DeleteServiceAccountKey'
        THEN [{'role': 'source', 'issuer': 'gcp', 'kind': 'api_key_id', 'id': caller_key}] END AS parents,
    CASE WHEN method = 'DeleteServiceAccountKey' THEN 'token' END AS revoke_target,
    CASE WHEN method = 'DeleteServiceAccountKey' THEN method END AS revoke_reason,
    ext_of(
        ['callerId', 'methodName', 'resourceName', 'serviceAccountKeyName', 'lifetime', 'record_sha256'],
        [who, r.protoPayload.methodName, r.protoPayload.resourceName, r.protoPayload.authenticationInfo.serviceAccountKeyName, r.protoPayload.request.lifetime, sha256]
    ) AS ext
FROM made
WHERE happened IS NOT NULL
