-- Folded from all events of the secret: the newest that tells a column wins.
WITH ordered AS (
    SELECT *, row_number() OVER (PARTITION BY tenant_id, secret_id ORDER BY event_time, event_uid) AS recency
    FROM secret_events
)
SELECT
    tenant_id, secret_id,
    coalesce(arg_max(secret_kind, recency) FILTER (secret_kind IS NOT NULL), 'other') AS secret_kind,
    arg_max(secret_version, recency) FILTER (secret_version IS NOT NULL) AS secret_version,
    arg_max(store, recency) FILTER (store IS NOT NULL) AS store,
    arg_max(environment, recency) FILTER (environment IS NOT NULL) AS environment,
    arg_max(bound_identity_id, recency) FILTER (bound_identity_id IS NOT NULL) AS bound_identity_id,
    arg_max(bound_identity_issuer, recency) FILTER (bound_identity_issuer IS NOT NULL) AS bound_identity_issuer,
    coalesce(arg_max(created_at, recency) FILTER (created_at IS NOT NULL),
        min(event_time) FILTER (op = 'create')) AS created_at,
    greatest(max(last_rotated_at), max(event_time) FILTER (op = 'rotate')) AS last_rotated_at,
    arg_max(expires_at, recency) FILTER (expires_at IS NOT NULL) AS expires_at,
    coalesce(arg_max(never_expires, recency) FILTER (op IN ('create', 'rotate', 'renew', 'inventory')), false) AS never_expires,
    arg_max(ttl_s, recency) FILTER (ttl_s IS NOT NULL) AS ttl_s,
    (epoch($as_of) - epoch(coalesce(greatest(max(last_rotated_at), max(event_time) FILTER (op = 'rotate')),
        arg_max(created_at, recency) FILTER (created_at IS NOT NULL),
        min(event_time) FILTER (op = 'create'))))::BIGINT AS age_s,
    greatest(max(last_used_at), max(event_time) FILTER (op IN ('use', 'read'))) AS last_used_at,
    arg_max(accessed_by_id, recency) FILTER (op IN ('use', 'read') AND accessed_by_id IS NOT NULL) AS last_accessed_by,
    coalesce(list_sort(list_distinct(list(accessed_by_id) FILTER (accessed_by_id IS NOT NULL))), []) AS holders,
    coalesce(arg_max(consumers, recency) FILTER (len(consumers) > 0), []) AS consumers,
    coalesce(arg_max(scopes, recency) FILTER (len(scopes) > 0), []) AS scopes,
    arg_max(fingerprint, recency) FILTER (fingerprint IS NOT NULL) AS fingerprint,
    CASE arg_max(op, recency) FILTER (op IN ('create', 'rotate', 'renew', 'inventory', 'revoke', 'delete', 'expire'))
        WHEN 'revoke' THEN 'revoked' WHEN 'delete' THEN 'deleted' WHEN 'expire' THEN 'expired'
        ELSE CASE WHEN arg_max(expires_at, recency) FILTER (expires_at IS NOT NULL) <= $as_of THEN 'expired' ELSE 'active' END
    END AS status,
    min(event_time) FILTER (op = 'exposure') AS exposed_at,
    arg_min(exposure_location, recency) FILTER (exposure_location IS NOT NULL) AS exposure_location,
    max(event_time) FILTER (op = 'inventory') AS inventory_at,
    arg_max(snapshot_complete, recency) FILTER (snapshot_complete IS NOT NULL) AS snapshot_complete,
    min(event_time) AS first_seen, max(event_time) AS last_seen,
    arg_max(source, recency) AS source,
    list_slice(list(event_uid ORDER BY event_time, event_uid), 1, 50) AS event_uids
FROM ordered
GROUP BY tenant_id, secret_id
