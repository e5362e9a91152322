-- A token that the cluster issued for a service account, told by the answer to its request.
WITH issued AS (
    SELECT
        *,
        concat_ws(':', 'k8s', $instance) AS cluster,
        text_of(coalesce(
            r.annotations."authentication.kubernetes.io/issued-credential-id",
            r.annotations."authentication.k8s.io/issued-credential-id"
        )) AS issued_id,
        r.user.extra."authentication.kubernetes.io/credential-id"[1] AS held
    FROM records
    WHERE r.objectRef.resource = 'serviceaccounts' AND r.objectRef.subresource = 'token'
        AND coalesce(r.stage, 'ResponseComplete') = 'ResponseComplete' AND coalesce(r.responseStatus.code, 201) < 400
),
parented AS (
    SELECT
        *,
        'system:serviceaccount:' || r.objectRef.namespace || ':' || r.objectRef.name AS account,
        CASE WHEN held LIKE 'JTI=%' AND r.user.username LIKE 'system:serviceaccount:%'
            THEN {'role': 'source', 'issuer': cluster, 'kind': 'k8s_credential_id', 'id': held}
            WHEN held LIKE 'JTI=_%' THEN {'role': 'source', 'issuer': CAST(NULL AS VARCHAR), 'kind': 'jti', 'id': substr(held, 5)}
            WHEN held LIKE 'X509SHA256=%'
            THEN {'role': 'source', 'issuer': CAST(NULL AS VARCHAR), 'kind': 'x5t_s256', 'id': thumbprint_of(substr(held, 12))}
            WHEN held IS NULL AND r.user.extra.accessKeyId[1] IS NOT NULL
            THEN {'role': 'source', 'issuer': 'aws', 'kind': 'access_key_id', 'id': r.user.extra.accessKeyId[1]}
        END AS parent
    FROM issued
    WHERE issued_id IS NOT NULL
)
SELECT
    part,
    coalesce(text_of(r.auditID) || coalesce('/' || r.stage, ''), sha256) AS event_id,
    concat_ws(':', 'kubernetes.audit', $instance) AS source,
    coalesce(written_moment_of(r.stageTimestamp), written_moment_of(r.requestReceivedTimestamp), written_moment_of(r.timestamp)) AS event_time,
    'authz_server' AS observer,
    $tenant_id AS tenant_id,
    'issue' AS op,
    'success' AS outcome,
    'token_request' AS grant_type,
    'urn:ietf:params:oauth:token-type:jwt' AS token_type,
    cluster AS credential_issuer,
    'k8s_credential_id' AS credential_kind,
    issued_id AS credential_id,
    -- The same token where somebody logs its claims; what its issuer is called there, we do not know.
    CASE WHEN issued_id LIKE 'JTI=_%' THEN [{'issuer': CAST(NULL AS VARCHAR), 'kind': 'jti', 'id': substr(issued_id, 5)}] ELSE [] END
        AS credential_aliases,
    account AS subject_id,
    CASE WHEN account IS NOT NULL THEN cluster END AS subject_issuer,
    'service_account' AS subject_kind,
    account AS actor_id,
    CASE WHEN account IS NOT NULL THEN cluster END AS actor_issuer,
    'none' AS actor_convention,
    false AS scope_known,
    list_filter(coalesce(r.responseObject.spec.audiences, r.requestObject.spec.audiences), lambda name: name <> '') AS audience,
    written_moment_of(r.responseObject.status.expirationTimestamp) AS expires_at,
    CASE WHEN parent.id IS NULL OR parent.id = issued_id THEN [] ELSE [parent] END AS parents,
    ext_of(
        ['caller', 'impersonatedUser', 'boundObjectKind', 'boundObjectName', 'boundObjectUid'],
        [r.user.username, r.impersonatedUser.username, r.requestObject.spec.boundObjectRef.kind,
            r.requestObject.spec.boundObjectRef.name, r.requestObject.spec.boundObjectRef.uid]
    ) AS ext
FROM parented
WHERE event_time IS NOT NULL
