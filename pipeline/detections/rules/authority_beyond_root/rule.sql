-- A credential carries a scope that the root grant never held, or that the registered ceiling
-- of the agent excludes.
--
-- One row per credential at which the excess first appears; what merely carries it on, by
-- exchange or refresh, is not reported again.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
beyond AS (
    SELECT
        tenant_id, credential_key, root_key, root_kind, root_principal, root_scopes,
        credential_path, confidence, beyond_root_scopes
    FROM chains
    WHERE root_attenuation = 'not_covered' AND root_scope_known AND credential_key <> root_key
),
carried AS (
    SELECT chain.credential_key, list_distinct(flatten(list(above.beyond_root_scopes))) AS scopes
    FROM beyond AS chain
    CROSS JOIN unnest(chain.credential_path) AS step(credential_key)
    INNER JOIN beyond AS above
        ON step.credential_key = above.credential_key
        AND above.credential_key <> chain.credential_key
    GROUP BY chain.credential_key
),
first_beyond AS (
    SELECT
        chain.*,
        list_filter(
            chain.beyond_root_scopes,
            lambda x: NOT list_contains(coalesce(carried.scopes, CAST([] AS VARCHAR[])), x)
        ) AS new_scopes
    FROM beyond AS chain
    LEFT JOIN carried ON chain.credential_key = carried.credential_key
),
holders AS (
    SELECT held.credential_key, min(names.identity_id) AS identity_id
    FROM credentials AS held
    INNER JOIN names
        ON coalesce(held.actor_id, held.client_id) = names.subject
        AND (names.issuer IS NULL OR held.actor_issuer IS NULL OR names.issuer = held.actor_issuer)
    GROUP BY held.credential_key
),
-- What is implied by what, three steps deep: hierarchies in use have no more.
implied AS (
    SELECT issuer, scope, implies FROM reg_scope_implications
    UNION
    SELECT one.issuer, one.scope, two.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    UNION
    SELECT one.issuer, one.scope, three.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    INNER JOIN reg_scope_implications AS three ON two.implies = three.scope
),
granted AS (
    SELECT
        held.tenant_id, held.credential_key, held.issuer, identity.identity_id,
        identity.scope_ceiling, item.scope
    FROM credentials AS held
    INNER JOIN holders ON held.credential_key = holders.credential_key
    -- The ceiling of the time at which it was issued: raising it later excuses nothing.
    INNER JOIN reg_identities_as_of AS identity
        ON holders.identity_id = identity.identity_id
        AND coalesce(held.issued_at, held.first_seen) >= identity.valid_from
        AND coalesce(held.issued_at, held.first_seen) < identity.valid_to
    LEFT JOIN reg_issuers AS issuer ON held.issuer = issuer.issuer
    CROSS JOIN unnest(held.scopes) AS item(scope)
    WHERE identity.scope_ceiling IS NOT NULL AND held.seen_issued AND held.scope_known
        -- A refresh repeats what the credential before it was already reported for.
        AND coalesce(held.issue_op, 'issue') <> 'refresh'
        -- Names of these dialects, and of an issuer with a hierarchy, cannot be compared as text.
        AND coalesce(held.scope_dialect, 'exact') NOT IN ('aws', 'policy')
        AND NOT coalesce(issuer.has_hierarchy, false)
        AND item.scope NOT IN ('openid', 'profile', 'email', 'address', 'phone')
),
allowed AS (
    SELECT DISTINCT granted.credential_key, granted.scope
    FROM granted
    CROSS JOIN unnest(granted.scope_ceiling) AS ceiling(scope)
    LEFT JOIN implied
        ON ceiling.scope = implied.scope AND granted.scope = implied.implies
        AND (implied.issuer IS NULL OR implied.issuer = granted.issuer)
    WHERE granted.scope = ceiling.scope
        OR ceiling.scope = '*'
        OR implied.implies IS NOT NULL
        OR (
            (ends_with(ceiling.scope, '.*') OR ends_with(ceiling.scope, ':*') OR ends_with(ceiling.scope, '/*'))
            AND length(granted.scope) >= length(ceiling.scope)
            AND starts_with(granted.scope, left(ceiling.scope, length(ceiling.scope) - 1))
        )
),
over_ceiling AS (
    SELECT
        granted.tenant_id, granted.credential_key, granted.identity_id,
        list_sort(list(granted.scope)) AS new_scopes,
        max(granted.scope_ceiling) AS scope_ceiling
    FROM granted
    LEFT JOIN allowed
        ON granted.credential_key = allowed.credential_key AND granted.scope = allowed.scope
    WHERE allowed.scope IS NULL
    GROUP BY granted.tenant_id, granted.credential_key, granted.identity_id
),
found AS (
    SELECT
        tenant_id, credential_key, 'root' AS variant, root_kind, root_principal, root_key,
        root_scopes AS limit_scopes, list_sort(new_scopes) AS new_scopes, confidence,
        -- A person never consented to it.
        CASE WHEN root_kind = 'human_interactive' THEN 5 ELSE 4 END AS severity
    FROM first_beyond
    WHERE array_length(new_scopes) > 0
    UNION ALL
    SELECT
        over_ceiling.tenant_id, over_ceiling.credential_key, 'ceiling' AS variant, chain.root_kind,
        chain.root_principal, chain.root_key, over_ceiling.scope_ceiling AS limit_scopes,
        over_ceiling.new_scopes, 1.0 AS confidence, 4 AS severity
    FROM over_ceiling
    INNER JOIN chains AS chain ON over_ceiling.credential_key = chain.credential_key
)
SELECT
    found.tenant_id,
    found.credential_key,
    found.variant,
    coalesce(hop.delegate, held.actor_id, held.client_id, held.subject_id, held.id) AS entity,
    coalesce(hop.delegate, held.actor_id, held.client_id, held.subject_id, 'unknown') || CASE found.variant
        WHEN 'root' THEN ' holds scope that its root ' || coalesce(found.root_principal, 'unknown')
            || ' never granted: '
        ELSE ' holds scope beyond its registered ceiling: '
    END || array_to_string(found.new_scopes, ' ') AS title,
    found.severity,
    -- The widening hid in a hop that could not be compared: it is true of the whole way, but
    -- where on it is a guess.
    found.confidence * CASE WHEN found.variant = 'root' AND hop.attenuation = 'unknown'
        THEN $unknown_hop_factor ELSE 1.0 END AS confidence,
    found.confidence AS chain_confidence,
    holders.identity_id,
    coalesce(identity.vendor_hosted, false) AS vendor_hosted,
    coalesce(held.from_trust_domain <> held.to_trust_domain, false)
        OR coalesce(held.trust_domain <> root.trust_domain, false) AS cross_domain,
    held.environment,
    held.observer,
    found.root_key,
    found.root_kind,
    found.root_principal,
    found.new_scopes AS excess_scopes,
    found.limit_scopes,
    held.consent_id,
    hop.delegator,
    hop.delegate,
    hop.attenuation AS hop_attenuation,
    coalesce(hop.hop_time, held.issued_at, held.first_seen) AS first_seen,
    coalesce(hop.hop_time, held.issued_at, held.first_seen) AS last_seen,
    list_sort(list_distinct(list_concat(
        held.event_uids,
        list_concat(coalesce(hop.event_uids, CAST([] AS VARCHAR[])), coalesce(root.event_uids, CAST([] AS VARCHAR[])))
    ))) AS event_uids
FROM found
INNER JOIN credentials AS held ON found.credential_key = held.credential_key
LEFT JOIN credentials AS root ON found.root_key = root.credential_key
LEFT JOIN hops AS hop ON found.credential_key = hop.child_key
LEFT JOIN holders ON found.credential_key = holders.credential_key
LEFT JOIN reg_identities AS identity ON holders.identity_id = identity.identity_id
