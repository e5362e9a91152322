-- A credential was issued for longer than its kind should live.
--
-- One row per issuer, holder and kind of token: it is a setting of the issuer that is wrong,
-- and every token of it would say the same.  The longest lifetime sets the severity.  A lease
-- of a secret store stands among the secrets, with its store as issuer.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
assertions AS (
    SELECT DISTINCT tenant_id, parent_key FROM hops WHERE role = 'assertion'
),
-- A renewal begins a life of its own, which is no longer than the lease allows.
lease_lives AS (
    SELECT
        tenant_id, secret_id,
        max(coalesce(
            ttl_s,
            epoch(expires_at) - epoch(CASE WHEN op = 'create' THEN coalesce(created_at, event_time) ELSE event_time END)
        )) AS lifetime_s,
        min(coalesce(created_at, event_time)) AS issued_at,
        max(source) AS source, max(observer) AS observer
    FROM secret_events
    WHERE secret_kind = 'vault_lease' AND op IN ('create', 'renew', 'inventory')
        AND (op <> 'inventory' OR ttl_s IS NOT NULL)
    GROUP BY tenant_id, secret_id
),
leases AS (
    SELECT
        lease.tenant_id, 'secret:' || lease.secret_id AS held_key, CAST(NULL AS VARCHAR) AS credential_key,
        lease.store AS issuer, life.issued_at, lease.event_uids, lease.environment, life.observer, life.source,
        lease.bound_identity_issuer AS actor_issuer,
        lease.secret_kind AS token_type, CAST(NULL AS VARCHAR) AS grant_type,
        coalesce(lease.bound_identity_id, lease.last_accessed_by, 'unknown') AS holder,
        life.lifetime_s, 'lease' AS token_class
    FROM secrets AS lease
    INNER JOIN lease_lives AS life ON lease.tenant_id = life.tenant_id AND lease.secret_id = life.secret_id
    LEFT JOIN credentials AS held
        ON lease.tenant_id = held.tenant_id AND lease.secret_id = held.id AND held.seen_issued
    WHERE life.lifetime_s IS NOT NULL AND held.credential_key IS NULL
),
typed AS (
    SELECT
        held.tenant_id, held.credential_key AS held_key, held.credential_key, held.issuer, held.issued_at,
        held.event_uids, held.environment, held.observer, held.source, held.actor_issuer,
        held.token_type, held.grant_type,
        coalesce(held.actor_id, held.client_id, held.subject_id, 'unknown') AS holder,
        epoch(held.expires_at) - epoch(held.issued_at) AS lifetime_s,
        CASE
            WHEN ends_with(lower(coalesce(held.token_type, '')), 'txn_token')
                OR ends_with(lower(coalesce(held.token_type, '')), 'txn-token') THEN 'transaction_token'
            WHEN ends_with(lower(coalesce(held.token_type, '')), 'id-jag')
                OR (ends_with(lower(coalesce(held.token_type, '')), ':jwt') AND assertions.parent_key IS NOT NULL)
                THEN 'assertion_grant'
            WHEN contains(lower(coalesce(held.token_type, '')), 'svid') OR held.kind = 'x5t_s256'
                THEN 'workload_identity'
            WHEN held.kind = 'vault_accessor' THEN 'lease'
            WHEN held.kind = 'k8s_credential_id' THEN 'service_account_token'
            -- A delegation record without a token of its own is policy, not a token.
            WHEN held.issue_op = 'exchange' OR (held.issue_op = 'delegate' AND held.token_type IS NOT NULL)
                THEN 'delegated_token'
            ELSE 'access_token'
        END AS token_class
    FROM credentials AS held
    LEFT JOIN assertions
        ON held.tenant_id = assertions.tenant_id AND held.credential_key = assertions.parent_key
    WHERE held.seen_issued AND NOT coalesce(held.is_static, false)
        AND held.expires_at IS NOT NULL AND held.issued_at IS NOT NULL
        AND held.kind <> 'par_hash'
        AND NOT (held.issue_op = 'delegate' AND held.token_type IS NULL)
        -- A refresh token lives as long as its consent; an id token opens nothing.
        AND NOT ends_with(lower(coalesce(held.token_type, '')), 'refresh_token')
        AND NOT ends_with(lower(coalesce(held.token_type, '')), 'id_token')
        -- What a cloud's service takes for a machine or a function lives as long as the cloud says.
        AND NOT coalesce(held.issue_op = 'assume' AND ends_with(held.client_id, '.amazonaws.com'), false)
    UNION ALL
    SELECT
        tenant_id, held_key, credential_key, issuer, issued_at, event_uids, environment, observer, source,
        actor_issuer, token_type, grant_type, holder, lifetime_s, token_class
    FROM leases
),
registered AS (
    SELECT
        typed.tenant_id, typed.held_key, min(names.identity_id) AS identity_id, min(identity.max_ttl_s) AS max_ttl_s,
        bool_or(identity.vendor_hosted) AS vendor_hosted
    FROM typed
    INNER JOIN names
        ON typed.holder = names.subject
        AND (names.issuer IS NULL OR typed.actor_issuer IS NULL OR names.issuer = typed.actor_issuer)
    INNER JOIN reg_identities_as_of AS identity
        ON names.identity_id = identity.identity_id
        AND typed.issued_at >= identity.valid_from AND typed.issued_at < identity.valid_to
    GROUP BY typed.tenant_id, typed.held_key
),
limited AS (
    SELECT
        typed.*, registered.identity_id, registered.vendor_hosted,
        coalesce(registered.max_ttl_s, issuer.max_ttl_s, CASE typed.token_class
            WHEN 'transaction_token' THEN $txn_s
            WHEN 'assertion_grant' THEN $assertion_s
            WHEN 'workload_identity' THEN $svid_s
            WHEN 'lease' THEN $lease_s
            WHEN 'delegated_token' THEN $delegated_s
            WHEN 'service_account_token' THEN $kubernetes_s
            ELSE $access_s
        END) AS limit_s
    FROM typed
    LEFT JOIN registered ON typed.tenant_id = registered.tenant_id AND typed.held_key = registered.held_key
    LEFT JOIN reg_issuers AS issuer ON typed.issuer = issuer.issuer
),
overlong AS (
    -- JWT times are whole seconds.
    SELECT * FROM limited WHERE lifetime_s > limit_s + $slack_s
),
-- What was renewed in place lives long by its renewals, which have a rule of their own: what
-- counts is the life that it was made with.
made AS (
    SELECT
        overlong.tenant_id, overlong.credential_key,
        epoch(arg_min(event.expires_at, event.event_time)) - epoch(min(overlong.issued_at)) AS lifetime_s
    FROM overlong
    CROSS JOIN unnest(overlong.event_uids) AS mention(event_uid)
    INNER JOIN token_events AS event
        ON mention.event_uid = event.event_uid AND overlong.tenant_id = event.tenant_id
        AND event.source = overlong.source
    WHERE event.expires_at IS NOT NULL
        AND event.op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate')
    GROUP BY overlong.tenant_id, overlong.credential_key
),
judged AS (
    SELECT
        overlong.tenant_id, overlong.held_key, overlong.credential_key, overlong.issuer, overlong.holder,
        overlong.token_class, overlong.identity_id, overlong.vendor_hosted, overlong.environment, overlong.observer,
        overlong.token_type, overlong.grant_type, overlong.issued_at, overlong.event_uids,
        overlong.limit_s, coalesce(made.lifetime_s, overlong.lifetime_s) AS lifetime_s
    FROM overlong
    LEFT JOIN made
        ON overlong.tenant_id = made.tenant_id AND overlong.credential_key = made.credential_key
),
excessive AS (
    SELECT
        *,
        CASE
            WHEN lifetime_s > 86400 AND token_class IN ('access_token', 'delegated_token', 'service_account_token') THEN 4
            WHEN lifetime_s > 4 * limit_s THEN 3
            ELSE 2
        END AS severity,
        row_number() OVER (
            PARTITION BY tenant_id, issuer, holder, token_class
            ORDER BY lifetime_s DESC, issued_at, held_key
        ) AS place
    FROM judged
    WHERE lifetime_s > limit_s + $slack_s
)
SELECT
    tenant_id,
    coalesce(issuer, '') AS issuer,
    holder,
    token_class,
    holder AS entity,
    holder || ' gets ' || replace(token_class, '_', ' ') || 's that live '
        || CAST(CAST(max(lifetime_s) AS BIGINT) AS VARCHAR) || ' s, '
        || CAST(min(limit_s) AS VARCHAR) || ' s allowed' AS title,
    max(severity) AS severity,
    min(CASE WHEN place = 1 THEN credential_key END) AS credential_key,
    min(identity_id) AS identity_id,
    bool_or(vendor_hosted) AS vendor_hosted,
    min(CASE WHEN place = 1 THEN environment END) AS environment,
    min(CASE WHEN place = 1 THEN observer END) AS observer,
    count(*) AS credentials,
    max(lifetime_s) AS longest_s,
    min(limit_s) AS limit_s,
    min(CASE WHEN place = 1 THEN token_type END) AS token_type,
    min(CASE WHEN place = 1 THEN grant_type END) AS grant_type,
    min(issued_at) AS first_seen,
    max(issued_at) AS last_seen,
    list_sort(list_distinct(flatten(list(event_uids) FILTER (WHERE place <= $evidence_max)))) AS event_uids
FROM excessive
GROUP BY tenant_id, coalesce(issuer, ''), holder, token_class
