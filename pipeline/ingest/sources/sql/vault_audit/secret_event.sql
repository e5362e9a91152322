-- Key-value secrets and leases, told by answers that were given.
WITH told AS (
    SELECT
        *,
        concat_ws(':', 'vault', $instance) AS vault,
        lower(r.request.operation) AS verb,
        coalesce(r.request.mount_type, r.response.mount_type) AS engine,
        coalesce(text_of(r.request.mount_point), split_part(r.request.path, '/', 1) || '/') AS mount,
        coalesce(
            text_of(r.response.secret.lease_id),
            CASE WHEN regexp_matches(r.request.path, '^sys/(leases/)?(revoke|renew)$') AND r.request.data.lease_id NOT LIKE 'hmac-%'
                THEN text_of(r.request.data.lease_id) END,
            nullif(regexp_extract(r.request.path, '^sys/(?:leases/)?(?:revoke|renew)/(.+)$', 1), '')
        ) AS lease,
        regexp_extract(r.request.path, '^sys/(?:leases/)?(revoke|renew)(?:/|$)', 1) AS doing
    FROM records
    WHERE r.type = 'response' AND text_of(r.error) IS NULL AND r.request.id <> ''
),
leases AS (
    SELECT
        *, CASE doing WHEN 'renew' THEN 'renew' WHEN 'revoke' THEN 'revoke' ELSE 'create' END AS op, lease AS name, 'vault_lease' AS kind,
        CAST(NULL AS VARCHAR) AS version
    FROM told
    WHERE lease IS NOT NULL
),
entries AS (
    SELECT
        *,
        -- Version 2 keeps one secret under several paths.
        CASE WHEN starts_with(r.request.path, mount) THEN substr(r.request.path, length(mount) + 1) ELSE r.request.path END AS inner_path
    FROM told
    WHERE lease IS NULL AND engine IN ('kv', 'generic')
),
sorted AS (
    SELECT
        *,
        regexp_extract(inner_path, '^(data|metadata|delete|destroy)/.', 1) AS branch,
        mount || regexp_replace(inner_path, '^(data|metadata|delete|destroy)/', '') AS name
    FROM entries
    WHERE inner_path <> '' AND inner_path <> 'config' AND NOT starts_with(inner_path, 'undelete/') AND NOT ends_with(inner_path, '/')
),
acts AS (
    SELECT
        *,
        CASE
            WHEN branch IN ('delete', 'destroy') AND verb IN ('create', 'update') THEN 'delete'
            WHEN branch IN ('', 'data', 'metadata') AND verb = 'delete' THEN 'delete'
            WHEN branch IN ('', 'data') AND verb = 'read' AND r.response.data IS NOT NULL THEN 'read'
            WHEN branch IN ('', 'data') AND (verb = 'create' OR (verb = 'update' AND branch = 'data' AND r.response.data.version = '1')) THEN 'create'
            WHEN branch IN ('', 'data') AND verb IN ('update', 'patch') THEN 'rotate'
        END AS op,
        'other' AS kind,
        unnest(CASE
            WHEN branch IN ('delete', 'destroy') AND len(r.request.data.versions) > 0 THEN r.request.data.versions
            WHEN branch = 'data' THEN [CASE WHEN verb = 'read' THEN r.response.data.metadata.version ELSE r.response.data.version END]
            ELSE [CAST(NULL AS VARCHAR)]
        END) AS version
    FROM sorted
),
events AS (
    FROM leases UNION ALL BY NAME FROM acts
)
SELECT
    part,
    r.request.id || '/' || r.type AS event_id,
    concat_ws(':', 'vault.audit', $instance) AS source,
    moment_of(r.time) AS event_time,
    'secret_store' AS observer,
    $tenant_id AS tenant_id,
    op,
    concat_ws('/', $instance, text_of(rtrim(r.request.namespace.path, '/')), name) AS secret_id,
    text_of(version) AS secret_version,
    kind AS secret_kind,
    vault AS store,
    CASE WHEN op = 'create' AND kind = 'vault_lease' THEN coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name)) END AS bound_identity_id,
    CASE WHEN op = 'create' AND kind = 'vault_lease' THEN vault END AS bound_identity_issuer,
    coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name)) AS accessed_by_id,
    CASE WHEN coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name)) IS NOT NULL THEN vault END AS accessed_by_issuer,
    ext_of(['path', 'mount_type', 'namespace_id', 'accessor'], [r.request.path, engine, r.request.namespace.id, r.auth.accessor]) AS ext
FROM events
WHERE op IS NOT NULL AND event_time IS NOT NULL
