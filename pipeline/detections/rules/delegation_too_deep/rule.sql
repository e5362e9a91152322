-- Authority was delegated through more actors than its root, the registry or reason allows.
--
-- One row per root: the deepest way under it tells the story, the count tells how many.
-- A limit that somebody set replaces the general thresholds, except the hard one; the
-- registered one is that of the time at which the credential was made.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
reaching AS (
    SELECT
        chain.*, held.actor_id, held.client_id, held.actor_issuer, held.environment, held.observer,
        coalesce(held.issued_at, held.first_seen) AS made_at
    FROM chains AS chain
    INNER JOIN credentials AS held
        ON chain.tenant_id = held.tenant_id AND chain.credential_key = held.credential_key
    -- Nothing allows less than no delegation at all.
    WHERE chain.depth > 0
),
registered AS (
    SELECT reaching.credential_key, min(identity.max_depth) AS max_depth
    FROM reaching
    INNER JOIN names
        ON (
            coalesce(reaching.actor_id, reaching.client_id) = names.subject
            AND (names.issuer IS NULL OR reaching.actor_issuer IS NULL OR names.issuer = reaching.actor_issuer)
        )
    INNER JOIN reg_identities_as_of AS identity
        ON names.identity_id = identity.identity_id
        AND reaching.made_at >= identity.valid_from AND reaching.made_at < identity.valid_to
    GROUP BY reaching.credential_key
),
registered_root AS (
    SELECT reaching.credential_key, min(identity.max_depth) AS max_depth
    FROM reaching
    INNER JOIN names
        ON reaching.root_principal = names.subject
        AND (names.issuer IS NULL OR reaching.root_principal_issuer IS NULL
            OR names.issuer = reaching.root_principal_issuer)
    INNER JOIN reg_identities_as_of AS identity
        ON names.identity_id = identity.identity_id
        AND reaching.made_at >= identity.valid_from AND reaching.made_at < identity.valid_to
    GROUP BY reaching.credential_key
),
limited AS (
    SELECT
        reaching.*,
        least(reaching.root_max_depth, registered.max_depth, registered_root.max_depth) AS allowed_depth
    FROM reaching
    LEFT JOIN registered ON reaching.credential_key = registered.credential_key
    LEFT JOIN registered_root ON reaching.credential_key = registered_root.credential_key
),
judged AS (
    SELECT
        *,
        CASE
            WHEN depth > allowed_depth THEN 4
            WHEN depth > $depth_hard THEN 4
            WHEN allowed_depth IS NOT NULL THEN 0
            WHEN depth > $depth_high THEN 3
            WHEN depth > $depth_warn THEN 2
            ELSE 0
        END AS severity
    FROM limited
),
ranked AS (
    SELECT
        *,
        count(*) OVER (PARTITION BY tenant_id, root_key) AS too_deep,
        row_number() OVER (
            PARTITION BY tenant_id, root_key ORDER BY severity DESC, depth DESC, credential_key
        ) AS place
    FROM judged
    WHERE severity > 0
),
evidence AS (
    SELECT
        deep.tenant_id, deep.root_key,
        min(hop.hop_time) FILTER (WHERE hop.child_key = deep.credential_key) AS first_seen,
        max(hop.hop_time) FILTER (WHERE hop.child_key = deep.credential_key) AS last_seen,
        list_sort(list_distinct(flatten(list(on_way.event_uids)))) AS event_uids
    FROM ranked AS deep
    CROSS JOIN unnest(deep.credential_path) AS step(credential_key)
    INNER JOIN credentials AS on_way ON step.credential_key = on_way.credential_key
    LEFT JOIN hops AS hop ON step.credential_key = hop.child_key
    -- Enough to show; a tree of thousands would only repeat itself.
    WHERE deep.place <= $evidence_max
    GROUP BY deep.tenant_id, deep.root_key
)
SELECT
    deep.tenant_id,
    deep.root_key,
    coalesce(deep.root_principal, 'unknown root') AS entity,
    'Delegation from ' || coalesce(deep.root_principal, 'an unknown root') || ' is ' || CAST(deep.depth AS VARCHAR)
        || ' actors deep' || coalesce(', ' || CAST(deep.allowed_depth AS VARCHAR) || ' allowed', '') AS title,
    deep.severity,
    deep.confidence,
    deep.confidence AS chain_confidence,
    deep.credential_key,
    deep.environment,
    deep.observer,
    deep.depth,
    deep.allowed_depth,
    deep.actor_path,
    deep.too_deep,
    evidence.first_seen,
    evidence.last_seen,
    evidence.event_uids
FROM ranked AS deep
INNER JOIN evidence ON deep.tenant_id = evidence.tenant_id AND deep.root_key = evidence.root_key
WHERE deep.place = 1
