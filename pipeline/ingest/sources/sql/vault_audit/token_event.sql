-- Tokens made, renewed, looked up and revoked, and the tokens that wrap an answer.
WITH told AS (
    SELECT
        part, r,
        concat_ws(':', 'vault', $instance) AS vault,
        coalesce(text_of(regexp_extract(r.request.mount_point, '^auth/(.+)/$', 1)), split_part(r.request.path, '/', 2)) AS mount,
        r.request.mount_type AS method,
        NOT starts_with(r.request.path, 'auth/token/') AS is_elsewhere,
        regexp_extract(r.request.path, '^auth/token/(create|renew|revoke|lookup)', 1) AS doing,
        regexp_extract(r.request.path, '^auth/token/[a-z]+-([a-z]+)', 1) AS manner,
        text_of(r.auth.accessor) AS caller
    FROM records
    WHERE r.type = 'response' AND text_of(r.error) IS NULL AND r.request.id <> ''
),
sorted AS (
    SELECT
        *,
        -- A wrapped answer gives the token that wraps it and, where it is one, the token inside.
        unnest(CASE
            WHEN text_of(r.response.wrap_info.accessor) IS NOT NULL AND text_of(r.response.wrap_info.wrapped_accessor) IS NOT NULL
                THEN ['wrapping', 'wrapped']
            WHEN text_of(r.response.wrap_info.accessor) IS NOT NULL THEN ['wrapping']
            WHEN doing = 'renew' AND text_of(r.response.auth.accessor) IS NOT NULL THEN ['refresh']
            -- What a token says of itself, and which hash of it goes with which accessor.
            WHEN doing = 'lookup' AND manner = 'self' AND caller IS NOT NULL THEN ['introspect']
            WHEN doing = 'revoke' AND CASE manner WHEN 'self' THEN caller IS NOT NULL
                WHEN 'accessor' THEN text_of(r.request.data.accessor) IS NOT NULL ELSE r.request.data.token LIKE 'hmac-%' END THEN ['revoke']
            WHEN doing NOT IN ('renew', 'lookup', 'revoke')
                AND (text_of(r.response.auth.accessor) IS NOT NULL OR r.response.auth.token_type = 'batch')
                THEN [CASE WHEN is_elsewhere THEN 'login' ELSE 'child' END]
            ELSE []
        END) AS act
    FROM told
),
named AS (
    SELECT
        *,
        CASE WHEN act IN ('refresh', 'introspect', 'revoke') THEN act ELSE 'issue' END AS op,
        CASE act
            WHEN 'wrapping' THEN r.response.wrap_info.accessor
            WHEN 'wrapped' THEN r.response.wrap_info.wrapped_accessor
            WHEN 'introspect' THEN caller
            WHEN 'revoke' THEN CASE manner WHEN 'self' THEN caller WHEN 'accessor' THEN r.request.data.accessor END
            ELSE text_of(r.response.auth.accessor)
        END AS accessor,
        -- The hash of the token itself: what a revocation names that names no accessor.
        CASE WHEN manner = 'self' THEN r.auth.client_token ELSE r.response.auth.client_token END AS hashed,
        CASE
            WHEN act = 'child' AND caller IS DISTINCT FROM r.response.auth.accessor THEN caller
            WHEN act = 'wrapping' AND caller IS DISTINCT FROM r.response.wrap_info.wrapped_accessor THEN caller
            WHEN act = 'wrapped' AND NOT is_elsewhere AND caller IS DISTINCT FROM r.response.wrap_info.wrapped_accessor THEN caller
        END AS parent,
        CASE act WHEN 'introspect' THEN r.auth.policies ELSE r.response.auth.policies END AS granted,
        coalesce(text_of(r.response.auth.entity_id), text_of(r.response.auth.display_name)) AS holder
    FROM sorted
)
SELECT
    part,
    r.request.id || '/' || r.type || CASE WHEN act IN ('wrapping', 'wrapped') THEN '/' || act ELSE '' END AS event_id,
    concat_ws(':', 'vault.audit', $instance) AS source,
    written_moment_of(r.time) AS event_time,
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
    CASE act WHEN 'wrapping' THEN 'wrapping' ELSE text_of(r.response.auth.token_type) END AS token_type,
    CASE
        WHEN op <> 'issue' THEN NULL
        WHEN doing = 'create' THEN CASE manner WHEN 'orphan' THEN 'token_create_orphan' ELSE 'token_create' END
        WHEN act <> 'login' THEN NULL
        WHEN method IN ('userpass', 'ldap', 'radius', 'okta') THEN 'password'
        WHEN r.request.path LIKE 'auth/%/oidc/callback' THEN 'authorization_code'
        WHEN method = 'approle' THEN 'client_credentials'
        ELSE method
    END AS grant_type,
    CASE WHEN act = 'login' THEN coalesce(
        'system:serviceaccount:' || r.response.auth.metadata.service_account_namespace || ':' || r.response.auth.metadata.service_account_name,
        r.response.auth.metadata.service_account_email, r.response.auth.metadata.canonical_arn, r.response.auth.metadata.client_arn,
        r.response.auth.metadata.username, r.response.auth.metadata.role_name, r.response.auth.metadata.sub,
        r.response.auth.metadata.common_name,
        -- Vault puts the mount in front of the name that the method gave.
        text_of(CASE WHEN starts_with(r.response.auth.display_name, replace(mount, '/', '-') || '-')
            THEN substr(r.response.auth.display_name, length(mount) + 2) ELSE r.response.auth.display_name END)
    ) END AS subject_id,
    -- A name that only this mount knows; of the others we are not told the issuer.
    CASE WHEN act = 'login' AND method IN ('userpass', 'ldap', 'radius', 'approle', 'cert') THEN vault || '/auth/' || mount END AS subject_issuer,
    CASE
        WHEN act <> 'login' THEN NULL
        WHEN coalesce(r.response.auth.metadata.service_account_name, r.response.auth.metadata.service_account_email) IS NOT NULL
            THEN 'service_account'
        WHEN method = 'approle' THEN 'client'
        WHEN method = 'aws' THEN 'workload'
        ELSE 'unknown'
    END AS subject_kind,
    holder AS actor_id,
    CASE WHEN holder IS NOT NULL THEN vault END AS actor_issuer,
    'none' AS actor_convention,
    list_filter(granted, lambda name: name <> '') AS scopes,
    granted IS NOT NULL AS scope_known,
    'policy' AS scope_dialect,
    CASE
        WHEN op = 'issue' THEN coalesce(written_moment_of(r.response.auth.token_issue_time), written_moment_of(r.response.wrap_info.creation_time))
        -- Tells a token older than the log from one whose making is missing.
        WHEN act = 'introspect' THEN written_moment_of(r.auth.token_issue_time)
    END AS issued_at,
    CASE
        WHEN act = 'wrapping'
            THEN TRY(coalesce(written_moment_of(r.response.wrap_info.creation_time), event_time) + r.response.wrap_info.ttl * INTERVAL 1 SECOND)
        WHEN op = 'issue' AND r.response.auth.token_ttl > 0
            THEN TRY(coalesce(written_moment_of(r.response.auth.token_issue_time), event_time) + r.response.auth.token_ttl * INTERVAL 1 SECOND)
        WHEN op = 'refresh' AND r.response.auth.token_ttl > 0 THEN TRY(event_time + r.response.auth.token_ttl * INTERVAL 1 SECOND)
    END AS expires_at,
    -- Only root's own tokens may live for ever; a ttl of nought is left out of the record.
    coalesce(
        op = 'issue' AND list_contains(granted, 'root') AND r.response.auth.token_ttl IS NULL AND r.response.auth.token_issue_time IS NOT NULL, false
    ) AS never_expires,
    CASE WHEN parent IS NULL THEN [] ELSE [{'role': 'source', 'issuer': vault, 'kind': 'vault_accessor', 'id': parent}] END AS parents,
    CASE WHEN op = 'revoke' THEN 'token' END AS revoke_target,
    CASE WHEN op = 'revoke' THEN manner <> 'orphan' END AS revoke_cascade,
    ext_of(
        ['path', 'display_name', 'entity_id', 'mount_type', 'role', 'num_uses', 'is_orphan', 'caller', 'namespace_id'],
        -- Old clients wrote the token into the path.
        [CASE WHEN op = 'issue' THEN regexp_replace(r.request.path, '^(auth/token/(lookup|renew|revoke|revoke-orphan|lookup-accessor|revoke-accessor))/.+$', '\1/*') END, r.response.auth.display_name, r.response.auth.entity_id, method,
            CASE WHEN act = 'login' THEN r.response.auth.metadata.role END,
            CASE WHEN act = 'wrapping' THEN '1' ELSE CAST(r.response.auth.num_uses AS VARCHAR) END,
            CASE WHEN doing = 'create' AND (manner = 'orphan' OR r.request.data.no_parent) THEN 'true' END,
            CASE WHEN act <> 'login' THEN coalesce(r.auth.entity_id, r.auth.display_name) END, r.request.namespace.id]
    ) AS ext
FROM named
WHERE event_time IS NOT NULL
