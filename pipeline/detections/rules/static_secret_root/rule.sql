-- An agent whose class forbids it acts on a chain that starts at a static secret.
--
-- One row per secret and registered identity.  A secret that only its store or a listing knows
-- counts by the uses that were recorded or that its provider dates; one made to end within a day
-- is just-in-time.  What the registry does not forbid, or has excepted until a later date, is no
-- finding; without a registry there is none at all, nor for a key that was only ever refused.
-- Forbidden and excepted is what was so at the time of the use.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
forbidden AS (
    SELECT identity_id, vendor_hosted, class, valid_from, valid_to
    FROM reg_identities_as_of
    WHERE static_secret_allowed = false
        OR (coalesce(jit_required, false) AND NOT coalesce(static_secret_allowed, false))
),
-- Client secrets are not among them: they fetch tokens, and a chain starts at the token.
stored AS (
    SELECT secret.tenant_id, secret.secret_id, secret.secret_kind, secret.bound_identity_id,
        secret.bound_identity_issuer, secret.scopes, secret.environment
    FROM secrets AS secret
    LEFT JOIN credentials AS held
        ON secret.tenant_id = held.tenant_id AND secret.secret_id = held.id
    WHERE held.id IS NULL
        AND secret.secret_kind IN ('api_key', 'aws_access_key', 'gcp_sa_key', 'pat', 'ssh_key', 'db_password')
        AND coalesce(secret.ttl_s > $jit_s, true)
        AND coalesce(epoch(secret.expires_at) - epoch(secret.created_at) > $jit_s, true)
),
stored_uses AS (
    SELECT
        stored.tenant_id, 'secret:' || stored.secret_id AS root_key, stored.secret_id, stored.secret_kind,
        stored.scopes, coalesce(event.environment, stored.environment) AS environment,
        event.observer, CASE WHEN event.op = 'use' THEN event.event_time ELSE event.last_used_at END AS event_time,
        event.event_uid,
        coalesce(event.accessed_by_id, event.bound_identity_id, stored.bound_identity_id) AS user_id,
        CASE
            WHEN event.accessed_by_id IS NOT NULL THEN event.accessed_by_issuer
            WHEN event.bound_identity_id IS NOT NULL THEN event.bound_identity_issuer
            ELSE stored.bound_identity_issuer
        END AS user_issuer
    FROM secret_events AS event
    INNER JOIN stored
        ON event.tenant_id = stored.tenant_id AND event.secret_id = stored.secret_id
    -- Who read it out of its store is another matter.
    WHERE event.op = 'use' OR (event.op = 'inventory' AND event.last_used_at IS NOT NULL)
),
roots AS (
    SELECT
        held.tenant_id, held.credential_key AS root_key, held.issuer, held.kind, held.id,
        held.actor_id, held.client_id, held.subject_id,
        coalesce(held.actor_issuer, held.subject_issuer) AS holder_issuer,
        held.scopes, held.environment, held.observer, held.event_uids,
        coalesce(held.issued_at, held.first_seen) AS made_at, held.last_seen
    FROM credentials AS held
    INNER JOIN chains AS chain
        ON held.tenant_id = chain.tenant_id AND held.credential_key = chain.credential_key
    WHERE chain.root_kind = 'static_secret' AND chain.root_key = held.credential_key
    UNION ALL
    SELECT
        tenant_id, root_key, CAST(NULL AS VARCHAR) AS issuer, min(secret_kind) AS kind, min(secret_id) AS id,
        CAST(NULL AS VARCHAR) AS actor_id, CAST(NULL AS VARCHAR) AS client_id,
        CAST(NULL AS VARCHAR) AS subject_id, CAST(NULL AS VARCHAR) AS holder_issuer,
        any_value(scopes) AS scopes,
        CASE WHEN count(DISTINCT coalesce(environment, 'unknown')) = 1 THEN min(environment) END AS environment,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        CAST([] AS VARCHAR[]) AS event_uids,
        min(event_time) AS made_at, max(event_time) AS last_seen
    FROM stored_uses
    GROUP BY tenant_id, root_key
),
-- Whose secret it is, and who acts on it: both must be allowed to.
holding AS (
    SELECT roots.tenant_id, roots.root_key, names.identity_id, roots.last_seen AS seen_at,
        CAST(NULL AS VARCHAR) AS event_uid, CAST(NULL AS VARCHAR) AS tool_name
    FROM roots
    INNER JOIN names
        ON names.subject IN (roots.actor_id, roots.client_id, roots.subject_id)
        AND (names.issuer IS NULL OR roots.holder_issuer IS NULL OR names.issuer = roots.holder_issuer)
    UNION ALL
    SELECT roots.tenant_id, roots.root_key, own.identity_id, roots.last_seen AS seen_at,
        CAST(NULL AS VARCHAR) AS event_uid, CAST(NULL AS VARCHAR) AS tool_name
    FROM roots
    INNER JOIN reg_credential_ids AS own
        ON roots.kind = own.kind AND roots.id = own.id
        AND (own.issuer IS NULL OR roots.issuer IS NULL OR own.issuer = roots.issuer)
    UNION ALL
    SELECT call.tenant_id, call.root_key, names.identity_id, call.event_time AS seen_at,
        call.event_uid, call.tool_name
    FROM calls AS call
    INNER JOIN names
        ON call.agent_id = names.subject
        AND (names.issuer IS NULL OR call.agent_issuer IS NULL OR names.issuer = call.agent_issuer)
    WHERE call.root_kind = 'static_secret' AND call.outcome <> 'denied'
    UNION ALL
    SELECT used.tenant_id, used.root_key, names.identity_id, used.event_time AS seen_at,
        used.event_uid, CAST(NULL AS VARCHAR) AS tool_name
    FROM stored_uses AS used
    INNER JOIN names
        ON used.user_id = names.subject
        AND (names.issuer IS NULL OR used.user_issuer IS NULL OR names.issuer = used.user_issuer)
),
excepted AS (
    SELECT DISTINCT
        holding.tenant_id, holding.root_key, holding.identity_id, exception.since, exception.until
    FROM holding
    INNER JOIN reg_static_exceptions AS exception ON holding.identity_id = exception.identity_id
    INNER JOIN roots
        ON holding.tenant_id = roots.tenant_id AND holding.root_key = roots.root_key
        AND (exception.secret_id IS NULL OR exception.secret_id = roots.id)
),
excused AS (
    SELECT DISTINCT holding.tenant_id, holding.root_key, holding.identity_id, holding.seen_at
    FROM holding
    INNER JOIN excepted
        ON holding.tenant_id = excepted.tenant_id AND holding.root_key = excepted.root_key
        AND holding.identity_id = excepted.identity_id
        AND holding.seen_at >= excepted.since AND holding.seen_at < excepted.until
),
exceptions AS (
    SELECT tenant_id, root_key, identity_id, max(until) AS exception_until
    FROM excepted
    GROUP BY tenant_id, root_key, identity_id
),
against AS (
    SELECT
        holding.*, forbidden.class, forbidden.vendor_hosted,
        row_number() OVER (
            PARTITION BY holding.tenant_id, holding.root_key, holding.identity_id
            ORDER BY holding.seen_at, coalesce(holding.event_uid, '')
        ) AS place
    FROM holding
    INNER JOIN forbidden
        ON holding.identity_id = forbidden.identity_id
        AND holding.seen_at >= forbidden.valid_from AND holding.seen_at < forbidden.valid_to
    LEFT JOIN excused
        ON holding.tenant_id = excused.tenant_id AND holding.root_key = excused.root_key
        AND holding.identity_id = excused.identity_id AND holding.seen_at = excused.seen_at
    WHERE excused.identity_id IS NULL
),
uses AS (
    SELECT
        tenant_id, root_key, identity_id, min(class) AS class, bool_or(vendor_hosted) AS is_vendor_hosted,
        count(event_uid) AS calls,
        list_sort(list_distinct(list(tool_name) FILTER (WHERE tool_name IS NOT NULL AND place <= $evidence_max)))
            AS tools,
        min(seen_at) AS first_seen, max(seen_at) AS last_seen,
        list(event_uid) FILTER (WHERE event_uid IS NOT NULL AND place <= $evidence_max) AS event_uids
    FROM against
    GROUP BY tenant_id, root_key, identity_id
),
rated AS (
    SELECT roots.tenant_id, roots.root_key, max(catalogue.tier) AS tier
    FROM roots
    CROSS JOIN unnest(roots.scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue ON item.scope = catalogue.scope
    GROUP BY roots.tenant_id, roots.root_key
)
SELECT
    uses.tenant_id,
    uses.root_key,
    uses.identity_id,
    uses.identity_id AS entity,
    uses.identity_id || ' acts on the static secret ' || roots.id || ', which its class '
        || coalesce(uses.class, '') || ' forbids' AS title,
    CASE WHEN uses.is_vendor_hosted OR rated.tier >= 3 THEN 4 ELSE 3 END AS severity,
    CASE WHEN NOT starts_with(uses.root_key, 'secret:') THEN uses.root_key END AS credential_key,
    roots.environment,
    roots.observer,
    roots.issuer,
    roots.kind,
    roots.id AS secret_id,
    uses.class,
    exceptions.exception_until,
    uses.calls,
    uses.tools,
    coalesce(rated.tier, 0) AS tier,
    uses.first_seen,
    uses.last_seen,
    list_sort(list_distinct(list_concat(
        coalesce(uses.event_uids, CAST([] AS VARCHAR[])), roots.event_uids
    ))) AS event_uids
FROM uses
INNER JOIN roots ON uses.tenant_id = roots.tenant_id AND uses.root_key = roots.root_key
LEFT JOIN exceptions
    ON uses.tenant_id = exceptions.tenant_id AND uses.root_key = exceptions.root_key
    AND uses.identity_id = exceptions.identity_id
LEFT JOIN rated ON uses.tenant_id = rated.tenant_id AND uses.root_key = rated.root_key
WHERE uses.calls > 0 OR array_length(roots.event_uids) > 0
