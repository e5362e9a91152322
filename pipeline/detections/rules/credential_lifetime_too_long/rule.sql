-- A credential was issued for longer than its kind should live.
--
-- One row per issuer, holder and kind of token: it is a setting of the issuer that is wrong,
-- and every token of it would say the same.  The longest lifetime sets the severity.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
assertions AS (
    SELECT DISTINCT tenant_id, parent_key FROM hops WHERE role = 'assertion'
),
typed AS (
    SELECT
        held.tenant_id, held.credential_key, held.issuer, held.kind, held.id, held.issued_at,
        held.expires_at, held.event_uids, held.environment, held.observer, held.source, held.actor_issuer,
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
),
registered AS (
    SELECT
        typed.credential_key, min(names.identity_id) AS identity_id, min(identity.max_ttl_s) AS max_ttl_s
    FROM typed
    INNER JOIN names
        ON typed.holder = names.subject
        AND (names.issuer IS NULL OR typed.actor_issuer IS NULL OR names.issuer = typed.actor_issuer)
    INNER JOIN reg_identities_as_of AS identity
        ON names.identity_id = identity.identity_id
        AND typed.issued_at >= identity.valid_from AND typed.issued_at < identity.valid_to
    GROUP BY typed.credential_key
),
limited AS (
    SELECT
        typed.*, registered.identity_id,
        coalesce(registered.max_ttl_s, issuer.max_ttl_s, CASE typed.token_class
            WHEN 'transaction_token' THEN $txn_s
            WHEN 'assertion_grant' THEN $assertion_s
            WHEN 'workload_identity' THEN $svid_s
            WHEN 'lease' THEN $lease_s
            WHEN 'delegated_token' THEN $delegated_s
            ELSE $access_s
        END) AS limit_s
    FROM typed
    LEFT JOIN registered ON typed.credential_key = registered.credential_key
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
        overlong.tenant_id, overlong.credential_key, overlong.issuer, overlong.holder,
        overlong.token_class, overlong.identity_id, overlong.environment, overlong.observer,
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
            WHEN lifetime_s > 86400 AND token_class IN ('access_token', 'delegated_token') THEN 4
            WHEN lifetime_s > 4 * limit_s THEN 3
            ELSE 2
        END AS severity,
        row_number() OVER (
            PARTITION BY tenant_id, issuer, holder, token_class
            ORDER BY lifetime_s DESC, issued_at, credential_key
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
