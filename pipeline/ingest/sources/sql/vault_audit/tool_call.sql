-- One request or one response.
WITH told AS (
    SELECT
        *,
        concat_ws(':', 'vault', $instance) AS vault,
        lower(r.request.operation) AS verb,
        -- Old clients wrote the token into the path.
        regexp_replace(r.request.path, '^(auth/token/(lookup|renew|revoke|revoke-orphan|lookup-accessor|revoke-accessor))/.+$', '\1/*') AS path,
        lower(r.request.operation) IN ('create', 'update', 'patch', 'delete') AS changes,
        r.request.mount_type AS engine,
        coalesce(text_of(r.request.mount_point), split_part(r.request.path, '/', 1) || '/') AS mount,
        regexp_matches(r.request.path, '^auth/.+/(login|callback|auth_url)(/|$)') AS logs_in
    FROM records
),
placed AS (
    SELECT
        *,
        -- As much of the path as both records of a call have, whatever the version.
        CASE WHEN regexp_matches(path, '^(auth|sys|identity)/') THEN array_to_string(string_split(path, '/')[1:2], '/')
            ELSE split_part(path, '/', 1) END AS place,
        -- The answer to a login shows the token that it gives as if it had been used.
        CASE WHEN NOT logs_in THEN text_of(r.auth.accessor) END AS held
    FROM told
)
SELECT
    part,
    r.request.id || '/' || r.type AS event_id,
    concat_ws(':', 'vault.audit', $instance) AS source,
    written_moment_of(r.time) AS event_time,
    'secret_store' AS observer,
    $tenant_id AS tenant_id,
    r.request.id AS call_id,
    CASE r.type WHEN 'request' THEN 'pre' ELSE 'post' END AS phase,
    CASE WHEN logs_in THEN 'vault login' ELSE concat_ws(' ', verb, place) END AS tool_name,
    verb AS operation,
    vault AS tool_server,
    'http' AS tool_protocol,
    concat(r.request.namespace.path, path) AS resource,
    CASE
        WHEN changes AND regexp_matches(path, '^sys/(policy|policies|auth|audit|config|mounts|remount|rekey|rekey-recovery-key|generate-root|rotate|raw|seal|unseal|step-down|namespaces|quotas)(/|$)')
            THEN 'admin_iam'
        WHEN changes AND regexp_matches(path, '^identity/|^auth/token/(roles|tidy)|^auth/[^/]+/(role|roles|user|users|group|groups|map|certs|config|tune)(/|$)')
            THEN 'admin_iam'
        WHEN regexp_matches(path, '^auth/token/lookup') THEN 'read'
        -- Getting, extending and ending a token of one's own changes nobody's rights.
        WHEN changes AND starts_with(path, 'auth/') THEN 'execute'
        WHEN regexp_matches(path, '(^|/)(creds|static-creds|sts)/') AND verb IN ('read', 'create', 'update') THEN 'secret_read'
        WHEN path IN ('sys/wrapping/unwrap', 'cubbyhole/response') THEN 'secret_read'
        WHEN verb = 'read' AND coalesce(engine, '') IN ('kv', 'generic', 'cubbyhole') AND NOT regexp_matches(path, '/(metadata|config)(/|$)')
            THEN 'secret_read'
        WHEN verb = 'delete' THEN 'delete'
        WHEN changes AND engine = 'kv' AND (starts_with(path, mount || 'delete/') OR starts_with(path, mount || 'destroy/')) THEN 'delete'
        WHEN verb IN ('read', 'list', 'help', 'header', 'alias-lookahead') THEN 'read'
        WHEN changes AND engine IN ('transit', 'ssh', 'pki', 'totp', 'transform') THEN 'execute'
        WHEN changes THEN 'write'
    END AS action_class,
    CASE
        WHEN regexp_matches(lower(r.error), 'permission denied|access denied|unauthori[sz]ed|not authorized|bad token|missing client token|invalid (token|username or password|role or secret id|credential)')
            THEN 'denied'
        WHEN text_of(r.error) IS NOT NULL THEN 'failure'
        WHEN r.type = 'request' THEN 'unknown'
        ELSE 'success'
    END AS outcome,
    CASE r.auth.policy_results.allowed WHEN true THEN 'allow' WHEN false THEN 'deny' END AS decision_effect,
    text_of(array_to_string(list_transform(r.auth.policy_results.granting_policies, lambda one: one.name), ' ')) AS decision_policy,
    coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name), 'unknown') AS agent_id,
    vault AS agent_issuer,
    coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name)) AS actor_id,
    CASE WHEN coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name)) IS NOT NULL THEN vault END AS actor_issuer,
    'none' AS actor_convention,
    CASE WHEN held IS NOT NULL THEN vault END AS credential_issuer,
    CASE WHEN held IS NOT NULL THEN 'vault_accessor' END AS credential_kind,
    held AS credential_id,
    list_filter(r.auth.policies, lambda name: name <> '') AS presented_scopes,
    text_of(r.request.remote_address) AS src_ip,
    r.request.headers."user-agent"[1] AS user_agent,
    args_hash,
    result_hash,
    ext_of(
        ['display_name', 'entity_id', 'token_type', 'remaining_uses', 'client_id', 'mount_type', 'mount_point', 'mount_accessor',
            'namespace_id', 'forwarded_from', 'wrap_ttl', 'replication_cluster', 'client_certificate_serial_number', 'target_id'],
        [r.auth.display_name, r.auth.entity_id, r.auth.token_type, CAST(r.auth.remaining_uses AS VARCHAR), r.request.client_id, engine,
            r.request.mount_point, r.request.mount_accessor, r.request.namespace.id, r.forwarded_from,
            CAST(r.request.wrap_ttl AS VARCHAR), r.request.replication_cluster, r.request.client_certificate_serial_number,
            -- A policy of one's own is what one may do oneself.
            CASE WHEN changes AND list_contains(r.auth.policies, regexp_extract(path, '^sys/(?:policy|policies/[a-z]+)/(.+)$', 1))
                THEN coalesce(text_of(r.auth.entity_id), text_of(r.auth.display_name)) END]
    ) AS ext
FROM placed
WHERE r.request.id <> '' AND r.type IN ('request', 'response') AND path <> '' AND path <> 'sys/audit/test' AND event_time IS NOT NULL
