-- Tokens made, renewed, looked up and revoked, and the tokens that wrap an answer.
WITH told AS (
    SELECT
        *,
        concat_ws(':', 'vault', $instance) AS vault,
        coalesce(text_of(regexp_extract(r.request.mount_point, '^auth/(.+)/$', 1)), split_part(r.request.path, '/', 2)) AS mount,
        r.request.path NOT LIKE 'auth/token/%' AS logs_in,
        regexp_extract(r.request.path, '^auth/token/(create|renew|revoke|lookup)(-[a-z]+)?', 1) AS doing,
        regexp_extract(r.request.path, '^auth/token/(create|renew|revoke|lookup)-([a-z]+)', 2) AS manner,
        coalesce(text_of(r.auth.accessor), text_of(r.request.client_token_accessor)) AS caller
    FROM records
    WHERE r.type = 'response' AND text_of(r.error) IS NULL AND r.request.id <> ''
),
made AS (
    SELECT
        *,
        'issue' AS op,
        text_of(r.response.auth.accessor) AS accessor,
        r.response.auth AS token,
        CASE WHEN logs_in OR caller IS NOT DISTINCT FROM r.response.auth.accessor THEN NULL ELSE caller END AS parent,
        '' AS suffix
    FROM told
    WHERE r.response.auth IS NOT NULL AND doing <> 'renew'
        AND (text_of(r.response.auth.accessor) IS NOT NULL OR r.response.auth.token_type = 'batch')
),
renewed AS (
    SELECT *, 'refresh' AS op, text_of(r.response.auth.accessor) AS accessor, r.response.auth AS token, NULL AS parent, '' AS suffix
    FROM told
    WHERE doing = 'renew' AND text_of(r.response.auth.accessor) IS NOT NULL
),
-- What a token says of itself, and which hash of it goes with which accessor.
looked_up AS (
    SELECT *, 'introspect' AS op, caller AS accessor, r.auth AS token, NULL AS parent, '' AS suffix
    FROM told
    WHERE doing = 'lookup' AND manner = 'self' AND caller IS NOT NULL
),
revoked AS (
    SELECT
        *,
        'revoke' AS op,
        CASE manner WHEN 'self' THEN caller WHEN 'accessor' THEN text_of(r.request.data.accessor) END AS accessor,
        NULL AS token,
        NULL AS parent,
        '' AS suffix
    FROM told
    WHERE doing = 'revoke'
        AND CASE manner WHEN 'self' THEN caller IS NOT NULL WHEN 'accessor' THEN text_of(r.request.data.accessor) IS NOT NULL
            ELSE r.request.data.token LIKE 'hmac-%' END
),
wrapping AS (
    SELECT
        *,
        'issue' AS op,
        text_of(r.response.wrap_info.accessor) AS accessor,
        NULL AS token,
        CASE WHEN NOT logs_in OR caller IS DISTINCT FROM r.response.wrap_info.wrapped_accessor THEN caller END AS parent,
        '/wrap' AS suffix
    FROM told
    WHERE text_of(r.response.wrap_info.accessor) IS NOT NULL
),
wrapped AS (
    SELECT
        *,
        'issue' AS op,
        text_of(r.response.wrap_info.wrapped_accessor) AS accessor,
        NULL AS token,
        CASE WHEN NOT logs_in AND caller IS DISTINCT FROM r.response.wrap_info.wrapped_accessor THEN caller END AS parent,
        '/wrapped' AS suffix
    FROM told
    WHERE text_of(r.response.wrap_info.wrapped_accessor) IS NOT NULL
),
events AS (
    FROM made UNION ALL BY NAME FROM renewed UNION ALL BY NAME FROM looked_up
    UNION ALL BY NAME FROM revoked UNION ALL BY NAME FROM wrapping UNION ALL BY NAME FROM wrapped
),
named AS (
    SELECT
        *,
        moment_of(r.time) AS told_at,
        coalesce(text_of(token.entity_id), text_of(token.display_name)) AS holder,
        coalesce(r.request.mount_type, r.response.mount_type, mount) AS method,
        coalesce(token.policies, CASE WHEN token.token_policies IS NOT NULL OR token.identity_policies IS NOT NULL
            THEN list_concat(token.token_policies, token.identity_policies) END) AS granted,
        op = 'issue' AND logs_in AND token IS NOT NULL AS is_login,
        -- The hash of the token itself: what a revocation names that names no accessor.
        CASE WHEN op = 'introspect' OR manner = 'self' THEN r.auth.client_token ELSE token.client_token END AS hashed
    FROM events
)
SELECT
    part,
    r.request.id || '/' || r.type || suffix AS event_id,
    concat_ws(':', 'vault.audit', $instance) AS source,
    told_at AS event_time,
    'secret_store' AS observer,
    $tenant_id AS tenant_id,
    op,
    'success' AS outcome,
    vault AS credential_issuer,
    CASE WHEN accessor IS NULL THEN 'local' ELSE 'vault_accessor' END AS credential_kind,
    -- A batch token has no id that its uses would show; a revocation without accessor names the token's hash.
    CASE WHEN accessor IS NOT NULL THEN accessor WHEN op = 'revoke' THEN r.request.data.token ELSE 'batch:' || r.request.id END AS credential_id,
    CASE WHEN accessor IS NOT NULL AND hashed LIKE 'hmac-%' AND op <> 'revoke'
        THEN [{'issuer': vault, 'kind': 'local', 'id': hashed}] ELSE [] END AS credential_aliases,
    CASE suffix WHEN '/wrap' THEN 'wrapping' ELSE text_of(token.token_type) END AS token_type,
    CASE
        WHEN op <> 'issue' THEN NULL
        WHEN doing = 'create' THEN CASE manner WHEN 'orphan' THEN 'token_create_orphan' ELSE 'token_create' END
        WHEN NOT is_login THEN NULL
        WHEN method IN ('userpass', 'ldap', 'radius', 'okta') THEN 'password'
        WHEN r.request.path LIKE 'auth/%/oidc/callback' THEN 'authorization_code'
        WHEN method = 'approle' THEN 'client_credentials'
        ELSE method
    END AS grant_type,
    CASE WHEN is_login THEN CASE
        WHEN token.metadata.service_account_name IS NOT NULL
            THEN 'system:serviceaccount:' || token.metadata.service_account_namespace || ':' || token.metadata.service_account_name
        ELSE coalesce(
            token.metadata.service_account_email, token.metadata.canonical_arn, token.metadata.client_arn, token.metadata.username,
            token.metadata.role_name, token.metadata.sub, token.metadata.common_name,
            -- Vault puts the mount in front of the name that the method gave.
            text_of(CASE WHEN starts_with(token.display_name, replace(mount, '/', '-') || '-') THEN substr(token.display_name, length(mount) + 2)
                ELSE token.display_name END)
        )
    END END AS subject_id,
    -- A name that only this mount knows; of the others we are not told the issuer.
    CASE WHEN is_login AND method IN ('userpass', 'ldap', 'radius', 'approle', 'cert') THEN vault || '/auth/' || mount END AS subject_issuer,
    CASE
        WHEN NOT is_login THEN NULL
        WHEN token.metadata.service_account_name IS NOT NULL OR token.metadata.service_account_email IS NOT NULL THEN 'service_account'
        WHEN method = 'approle' THEN 'client'
        WHEN method = 'aws' THEN 'workload'
        ELSE 'unknown'
    END AS subject_kind,
    CASE WHEN op IN ('issue', 'refresh') THEN holder END AS actor_id,
    CASE WHEN op IN ('issue', 'refresh') AND holder IS NOT NULL THEN vault END AS actor_issuer,
    'none' AS actor_convention,
    granted AS scopes,
    granted IS NOT NULL AS scope_known,
    'policy' AS scope_dialect,
    CASE WHEN op = 'issue' THEN coalesce(moment_of(token.token_issue_time), moment_of(r.response.wrap_info.creation_time)) END AS issued_at,
    CASE
        WHEN suffix = '/wrap' THEN coalesce(moment_of(r.response.wrap_info.creation_time), told_at) + r.response.wrap_info.ttl * INTERVAL 1 SECOND
        WHEN op = 'issue' AND token.token_ttl > 0 THEN coalesce(moment_of(token.token_issue_time), told_at) + token.token_ttl * INTERVAL 1 SECOND
        WHEN op = 'refresh' AND token.token_ttl > 0 THEN told_at + token.token_ttl * INTERVAL 1 SECOND
    END AS expires_at,
    -- Only root's own tokens may live for ever; a ttl of nought is left out of the record.
    coalesce(op = 'issue' AND list_contains(granted, 'root') AND token.token_ttl IS NULL AND token.token_issue_time IS NOT NULL, false) AS never_expires,
    CASE WHEN parent IS NULL THEN [] ELSE [{'role': 'source', 'issuer': vault, 'kind': 'vault_accessor', 'id': parent}] END AS parents,
    CASE WHEN op = 'revoke' THEN 'token' END AS revoke_target,
    CASE WHEN op = 'revoke' THEN manner <> 'orphan' END AS revoke_cascade,
    ext_of(
        ['path', 'display_name', 'entity_id', 'mount_type', 'role', 'num_uses', 'is_orphan', 'caller', 'namespace_id'],
        [CASE WHEN op = 'issue' THEN r.request.path END, token.display_name, token.entity_id, method, CASE WHEN is_login THEN token.metadata.role END,
            CASE WHEN suffix = '/wrap' THEN '1' ELSE CAST(token.num_uses AS VARCHAR) END,
            CASE WHEN doing = 'create' AND (manner = 'orphan' OR r.request.data.no_parent) THEN 'true' END,
            CASE WHEN NOT is_login THEN coalesce(r.auth.entity_id, r.auth.display_name) END, r.request.namespace.id]
    ) AS ext
FROM named
WHERE told_at IS NOT NULL
