-- Key-value secrets and leases, told by answers that were given.
WITH told AS (
    SELECT
        part, r,
        concat_ws(':', 'vault', $instance) AS vault,
        lower(r.request.operation) AS verb,
        r.request.mount_type AS engine,
        coalesce(text_of(r.request.mount_point), split_part(r.request.path, '/', 1) || '/') AS mount,
        regexp_extract(r.request.path, '^sys/(?:leases/)?(revoke|renew)(?:/|$)', 1) AS doing
    FROM records
    WHERE r.type = 'response' AND text_of(r.error) IS NULL AND r.request.id <> ''
),
found AS (
    SELECT
        *,
        coalesce(
            text_of(r.response.secret.lease_id),
            CASE WHEN doing <> '' AND r.request.data.lease_id NOT LIKE 'hmac-%' THEN text_of(r.request.data.lease_id) END,
            CASE WHEN doing <> '' THEN text_of(regexp_extract(r.request.path, '/(?:revoke|renew)/(.+)$', 1)) END
        ) AS lease,
        -- Version 2 keeps one secret under several paths.
        CASE WHEN engine IN ('kv', 'generic') THEN
            CASE WHEN starts_with(r.request.path, mount) THEN substr(r.request.path, length(mount) + 1) ELSE r.request.path END
        END AS inner_path
    FROM told
    WHERE doing <> '' OR engine IN ('kv', 'generic') OR text_of(r.response.secret.lease_id) IS NOT NULL
),
sorted AS (
    SELECT
        *,
        regexp_extract(inner_path, '^(data|metadata|delete|destroy)/.', 1) AS branch
    FROM found
    WHERE lease IS NOT NULL
        OR (inner_path NOT IN ('', 'config') AND NOT starts_with(inner_path, 'undelete/') AND NOT ends_with(inner_path, '/'))
),
acts AS (
    SELECT
        *,
        CASE
            WHEN lease IS NOT NULL THEN CASE doing WHEN '' THEN 'create' ELSE doing END
            WHEN branch IN ('delete', 'destroy') AND verb IN ('create', 'update') THEN 'delete'
            WHEN branch IN ('', 'data', 'metadata') AND verb = 'delete' THEN 'delete'
            WHEN branch IN ('', 'data') AND verb = 'read' AND r.response.data IS NOT NULL THEN 'read'
            WHEN branch IN ('', 'data') AND (verb = 'create' OR (verb = 'update' AND branch = 'data' AND r.response.data.version = '1')) THEN 'create'
            WHEN branch IN ('', 'data') AND verb IN ('update', 'patch') THEN 'rotate'
        END AS op,
        unnest(CASE
            WHEN lease IS NOT NULL THEN [CAST(NULL AS VARCHAR)]
            WHEN branch IN ('delete', 'destroy') AND len(r.request.data.versions) > 0 THEN r.request.data.versions
            -- Of version 1, and in what was read, the same names are the secret's own.
            WHEN branch = 'data' THEN [CASE WHEN verb = 'read' THEN r.response.data.metadata.version ELSE r.response.data.version END]
            ELSE [CAST(NULL AS VARCHAR)]
        END) AS version
    FROM sorted
)
SELECT
    part,
    r.request.id || '/' || r.type AS event_id,
    concat_ws(':', 'vault.audit', $instance) AS source,
    written_moment_of(r.time) AS event_time,
    'secret_store' AS observer,
    $tenant_id AS tenant_id,
    op,
    concat_ws('/', $instance, text_of(rtrim(r.request.namespace.path, '/')),
        coalesce(lease, mount || regexp_replace(inner_path, '^(data|metadata|delete|destroy)/', ''))) AS secret_id,
    text_of(version) AS secret_version,
    CASE WHEN lease IS NULL THEN 'other' ELSE 'vault_lease' END AS secret_kind,
    vault AS store,
    coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name)) AS accessed_by_id,
    CASE WHEN coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name)) IS NOT NULL THEN vault END AS accessed_by_issuer,
    -- Whoever was given a lease is whom it lets in.
    CASE WHEN r.response.secret.lease_id <> '' AND doing = '' THEN accessed_by_id END AS bound_identity_id,
    CASE WHEN r.response.secret.lease_id <> '' AND doing = '' THEN accessed_by_issuer END AS bound_identity_issuer,
    ext_of(['path', 'mount_type', 'namespace_id', 'accessor'], [r.request.path, engine, r.request.namespace.id, r.auth.accessor]) AS ext
FROM acts
WHERE op IS NOT NULL AND event_time IS NOT NULL
