-- A secret that works has not been used for a long time, or never.
--
-- One row per secret.  Idleness is counted up to the newest event that could know of a use: a
-- provider's last-used date, or an exhaustive listing.  Calls with the secret are uses too.
WITH told AS (
    SELECT
        tenant_id, secret_id,
        max(last_used_at) AS provider_used_at,
        -- Of a use that a store logged itself it is known until the last listing only.
        max(event_time) FILTER (WHERE last_used_at IS NOT NULL) AS provider_said_at,
        max(event_time) FILTER (WHERE op = 'inventory' AND snapshot_complete) AS listed_at,
        max(source) FILTER (WHERE op = 'inventory') AS listed_by,
        max(event_time) FILTER (WHERE op = 'create') AS made_again_at,
        max(observer) AS observer
    FROM secret_events
    GROUP BY tenant_id, secret_id
),
-- Who was listed together with a secret, and is still listed now: if its neighbours are and the
-- secret is not, it is gone, and nobody said so.
listings AS (
    SELECT
        event.tenant_id, event.source, date_trunc('hour', event.event_time) AS listed_in,
        max(told.listed_at) AS listed_again_at
    FROM secret_events AS event
    INNER JOIN told ON event.tenant_id = told.tenant_id AND event.secret_id = told.secret_id
    WHERE event.op = 'inventory' AND event.snapshot_complete
    GROUP BY event.tenant_id, event.source, date_trunc('hour', event.event_time)
),
versions AS (
    SELECT DISTINCT tenant_id, secret_id, secret_version FROM secret_events WHERE secret_version IS NOT NULL
),
ids AS (
    SELECT tenant_id, secret_id, secret_id AS id FROM secrets
    UNION
    SELECT tenant_id, secret_id, secret_id || '/' || secret_version AS id FROM versions
    UNION
    SELECT tenant_id, secret_id, secret_id || ':' || secret_version AS id FROM versions
    UNION
    SELECT tenant_id, secret_id, secret_id || '#' || secret_version AS id FROM versions
    UNION
    SELECT tenant_id, secret_id, secret_id || '@' || secret_version AS id FROM versions
),
shown AS (
    SELECT
        ids.tenant_id, ids.secret_id, held.credential_key,
        greatest(held.last_used_at, CASE WHEN held.is_static THEN made.last_made_at END) AS used_at,
        held.revoked_at
    FROM ids
    INNER JOIN credentials AS held ON ids.tenant_id = held.tenant_id AND ids.id = held.id
    LEFT JOIN (
        SELECT tenant_id, parent_key, max(hop_time) AS last_made_at
        FROM hops
        GROUP BY tenant_id, parent_key
    ) AS made
        ON held.tenant_id = made.tenant_id AND held.credential_key = made.parent_key
    WHERE held.is_static OR held.kind IN ('api_key_id', 'access_key_id', 'secret_version', 'x5t_s256', 'vault_accessor')
),
uses AS (
    SELECT tenant_id, secret_id, max(used_at) AS used_at, max(revoked_at) AS revoked_at
    FROM shown
    GROUP BY tenant_id, secret_id
),
-- A holder at work with some static credential that no secret stands for may be using this one;
-- so may one that fetches tokens, where it is of a kind that authenticates a client.
names AS (
    SELECT identity_id, issuer, name FROM reg_names
),
bound AS (
    SELECT
        secret.tenant_id, secret.secret_id, min(names.identity_id) AS identity_id,
        bool_or(identity.seasonal) AS seasonal, bool_or(identity.vendor_hosted) AS vendor_hosted
    FROM secrets AS secret
    INNER JOIN names
        ON secret.bound_identity_id = names.name
        AND (names.issuer IS NULL OR secret.bound_identity_issuer IS NULL
            OR names.issuer = secret.bound_identity_issuer)
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
    GROUP BY secret.tenant_id, secret.secret_id
),
at_work AS (
    SELECT held.tenant_id, name.holder, NOT held.is_static AS is_client,
        max(greatest(held.last_used_at, held.issued_at)) AS worked_at
    FROM credentials AS held
    LEFT JOIN ids ON held.tenant_id = ids.tenant_id AND held.id = ids.id
    CROSS JOIN unnest([held.actor_id, held.client_id, held.subject_id]) AS name(holder)
    WHERE ids.secret_id IS NULL AND name.holder IS NOT NULL
        AND (held.is_static OR held.grant_type IN ('client_credentials', 'refresh_token', 'authorization_code',
            'urn:ietf:params:oauth:grant-type:jwt-bearer', 'urn:ietf:params:oauth:grant-type:token-exchange'))
    GROUP BY held.tenant_id, name.holder, held.is_static
    UNION ALL
    SELECT call.tenant_id, call.agent_id AS holder, false AS is_client, max(call.event_time) AS worked_at
    FROM calls AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    LEFT JOIN ids ON held.tenant_id = ids.tenant_id AND held.id = ids.id
    WHERE held.is_static AND ids.secret_id IS NULL AND call.outcome = 'success'
    GROUP BY call.tenant_id, call.agent_id
),
busy AS (
    SELECT secret.tenant_id, secret.secret_id, max(at_work.worked_at) AS worked_at
    FROM secrets AS secret
    LEFT JOIN bound ON secret.tenant_id = bound.tenant_id AND secret.secret_id = bound.secret_id
    LEFT JOIN names ON bound.identity_id = names.identity_id
    INNER JOIN at_work
        ON secret.tenant_id = at_work.tenant_id
        AND at_work.holder = coalesce(names.name, secret.bound_identity_id)
    WHERE NOT at_work.is_client
        OR secret.secret_kind NOT IN ('api_key', 'pat', 'ssh_key', 'db_password', 'webhook_secret', 'vault_token', 'vault_lease')
    GROUP BY secret.tenant_id, secret.secret_id
),
rated AS (
    SELECT secret.tenant_id, secret.secret_id, max(catalogue.tier) AS tier
    FROM secrets AS secret
    CROSS JOIN unnest(secret.scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue ON item.scope = catalogue.scope
    GROUP BY secret.tenant_id, secret.secret_id
),
idle AS (
    SELECT
        secret.*, told.observer, bound.identity_id, bound.vendor_hosted,
        coalesce(rated.tier, 0) AS tier,
        greatest(secret.last_used_at, uses.used_at) AS used_at,
        greatest(secret.created_at, secret.last_rotated_at, told.made_again_at) AS made_at,
        CASE
            WHEN greatest(secret.last_used_at, uses.used_at) IS NULL THEN told.listed_at
            ELSE greatest(told.provider_said_at, told.listed_at)
        END AS known_at
    FROM secrets AS secret
    INNER JOIN rule_watermarks AS until ON secret.tenant_id = until.tenant_id
    INNER JOIN told ON secret.tenant_id = told.tenant_id AND secret.secret_id = told.secret_id
    LEFT JOIN uses ON secret.tenant_id = uses.tenant_id AND secret.secret_id = uses.secret_id
    LEFT JOIN bound ON secret.tenant_id = bound.tenant_id AND secret.secret_id = bound.secret_id
    LEFT JOIN busy ON secret.tenant_id = busy.tenant_id AND secret.secret_id = busy.secret_id
    LEFT JOIN rated ON secret.tenant_id = rated.tenant_id AND secret.secret_id = rated.secret_id
    LEFT JOIN listings
        ON told.tenant_id = listings.tenant_id AND told.listed_by = listings.source
        AND date_trunc('hour', told.listed_at) = listings.listed_in
    -- Whether it has ended is judged as of the look, which may come before or after the build.
    WHERE secret.status NOT IN ('revoked', 'deleted')
        AND (secret.expires_at IS NULL OR secret.expires_at > until.watermark)
        AND coalesce(told.provider_said_at, told.listed_at) <= until.watermark
        AND uses.revoked_at IS NULL
        AND NOT coalesce(bound.seasonal, false)
        AND (listings.listed_again_at IS NULL
            OR epoch(listings.listed_again_at) - epoch(told.listed_at) < $relisted_s)
        -- Where the provider tells nothing, a holder at work may be at work with this secret.
        AND (told.provider_used_at IS NOT NULL OR busy.worked_at IS NULL
            OR epoch(told.listed_at) - epoch(busy.worked_at) > $unused_d * 86400)
),
unused AS (
    SELECT
        *,
        greatest(used_at, made_at) AS quiet_since,
        epoch(known_at) - epoch(coalesce(greatest(used_at, made_at), used_at, made_at)) AS unused_s
    FROM idle
    WHERE known_at IS NOT NULL AND coalesce(used_at, made_at) IS NOT NULL
)
SELECT
    unused.tenant_id,
    unused.secret_id,
    unused.secret_id AS entity,
    unused.secret_kind || ' of ' || coalesce(unused.bound_identity_id, 'an unknown holder')
        || CASE WHEN unused.used_at IS NULL THEN ' was never used in '
            ELSE ' has not been used for ' END
        || CAST(CAST(floor(unused.unused_s / 86400) AS BIGINT) AS VARCHAR) || ' days and still works' AS title,
    CASE WHEN unused.tier >= 3 THEN 3 ELSE 2 END AS severity,
    unused.identity_id,
    unused.vendor_hosted,
    unused.environment,
    unused.observer,
    unused.secret_kind,
    unused.store,
    unused.bound_identity_id,
    unused.created_at,
    unused.last_rotated_at,
    unused.used_at AS last_used_at,
    unused.known_at AS last_used_known_at,
    CASE WHEN unused.snapshot_complete THEN 'exhaustive listing' ELSE 'provider' END AS known_by,
    CAST(floor(unused.unused_s / 86400) AS BIGINT) AS unused_d,
    unused.tier,
    unused.holders,
    unused.consumers,
    unused.quiet_since + $unused_d * INTERVAL 1 DAY AS first_seen,
    greatest(unused.last_seen, unused.quiet_since + $unused_d * INTERVAL 1 DAY) AS last_seen,
    list_sort(list_distinct(unused.event_uids)) AS event_uids
FROM unused
WHERE unused.unused_s > $unused_d * 86400
