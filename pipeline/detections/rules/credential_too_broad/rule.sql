-- A credential that is good for many audiences, all scopes, dozens of them, or whoever holds it.
--
-- One row per issuer, holder and kind of breadth.  Names of one resource server count once;
-- what the registry signed off for the holder is not too broad.
WITH aliases AS (
    SELECT alias AS name, min(server) AS server FROM reg_resource_aliases GROUP BY alias
),
issued AS (
    SELECT
        tenant_id, credential_key, issuer, kind, id, token_type, grant_type, scope_dialect, audience,
        scopes, scope_known, requested_scopes, cnf_thumbprint, environment, observer, issued_at,
        last_seen, event_uids,
        coalesce(actor_id, client_id, subject_id, 'unknown') AS holder,
        CASE WHEN actor_id IS NOT NULL THEN actor_issuer
            WHEN client_id IS NULL THEN subject_issuer END AS holder_issuer
    FROM credentials
    WHERE seen_issued AND NOT (coalesce(issue_op, 'issue') = 'delegate' AND token_type IS NULL)
),
-- Far fewer sets than credentials: what is broad is decided once for each.
audiences AS (
    SELECT
        sets.audience,
        count(DISTINCT coalesce(aliases.server, rtrim(item.name, '/'))) AS servers,
        bool_or(item.name IN ('*', 'https://*', 'http://*', '*:*', 'any')) AS is_wildcard
    FROM (SELECT DISTINCT audience FROM issued WHERE array_length(audience) > 0) AS sets
    CROSS JOIN unnest(sets.audience) AS item(name)
    LEFT JOIN aliases ON item.name = aliases.name
    GROUP BY sets.audience
),
scope_sets AS (
    SELECT
        sets.issuer, sets.scopes,
        count(DISTINCT item.scope) FILTER (
            WHERE item.scope NOT IN ('openid', 'profile', 'email', 'address', 'phone', 'offline_access')
        ) AS scopes_count,
        bool_or(item.scope IN ('*', '*:*', '*.*', '*/*')) AS is_wildcard,
        max(catalogue.tier) AS tier
    FROM (SELECT DISTINCT issuer, scopes FROM issued WHERE scope_known AND array_length(scopes) > 0) AS sets
    CROSS JOIN unnest(sets.scopes) AS item(scope)
    LEFT JOIN reg_scope_tiers AS catalogue
        ON item.scope = catalogue.scope
        AND (catalogue.issuer IS NULL OR sets.issuer IS NULL OR catalogue.issuer = sets.issuer)
    GROUP BY sets.issuer, sets.scopes
),
rated AS (
    SELECT
        issued.*, coalesce(audiences.servers, 0) AS servers,
        coalesce(audiences.is_wildcard, false) AS any_audience,
        coalesce(scope_sets.scopes_count, 0) AS scopes_count,
        coalesce(scope_sets.is_wildcard, false) AS any_scope,
        coalesce(scope_sets.tier, 0) AS tier
    FROM issued
    LEFT JOIN audiences ON issued.audience = audiences.audience
    LEFT JOIN scope_sets
        ON issued.scopes = scope_sets.scopes AND issued.issuer IS NOT DISTINCT FROM scope_sets.issuer
),
broad AS (
    SELECT *, 'audience wildcard' AS breadth FROM rated WHERE any_audience
    UNION ALL
    SELECT *, 'audiences' AS breadth FROM rated WHERE NOT any_audience AND servers > $max_audiences
    UNION ALL
    SELECT *, 'scope wildcard' AS breadth FROM rated WHERE any_scope
    UNION ALL
    SELECT *, 'scopes' AS breadth FROM rated WHERE scopes_count > $max_scopes
    UNION ALL
    SELECT *, 'bearer of critical scope' AS breadth
    FROM rated
    WHERE tier >= 4 AND cnf_thumbprint IS NULL
        -- Requests with an access key are signed; a certificate is a proof of its own.  And only
        -- the issuer knows whether it bound the token.
        AND kind IN ('jti', 'uti', 'ath', 'token_sha256', 'par_hash', 'api_key_id', 'local')
        AND observer IN ('authz_server', 'idp')
),
holders AS (
    SELECT
        broad.tenant_id, broad.credential_key, broad.breadth,
        min(policy.identity_id) AS identity_id,
        bool_or(policy.vendor_hosted) AS vendor_hosted,
        -- Signed off: every audience, or every scope, stands in the registry by name.
        bool_or(
            (broad.breadth = 'audiences' AND list_has_all(policy.expected_audiences, broad.audience))
            OR (broad.breadth = 'scopes' AND list_has_all(policy.scope_ceiling, list_filter(
                broad.scopes, lambda x: x NOT IN ('openid', 'profile', 'email', 'address', 'phone', 'offline_access')
            )))
        ) AS signed_off
    FROM broad
    INNER JOIN reg_names AS names
        ON broad.holder = names.name
        AND (names.issuer IS NULL OR broad.holder_issuer IS NULL OR names.issuer = broad.holder_issuer)
    INNER JOIN reg_identities_as_of AS policy
        ON names.identity_id = policy.identity_id
        AND broad.issued_at >= policy.valid_from AND broad.issued_at < policy.valid_to
    GROUP BY broad.tenant_id, broad.credential_key, broad.breadth
),
ranked AS (
    SELECT
        broad.*, holders.identity_id, holders.vendor_hosted,
        row_number() OVER (
            PARTITION BY broad.tenant_id, broad.issuer, broad.holder, broad.breadth
            ORDER BY broad.servers DESC, broad.scopes_count DESC, broad.tier DESC, broad.issued_at, broad.credential_key
        ) AS place,
        row_number() OVER (
            PARTITION BY broad.tenant_id, broad.issuer, broad.holder, broad.breadth
            ORDER BY broad.issued_at DESC, broad.credential_key
        ) AS recency
    FROM broad
    LEFT JOIN holders
        ON broad.tenant_id = holders.tenant_id AND broad.credential_key = holders.credential_key
        AND broad.breadth = holders.breadth
    WHERE NOT coalesce(holders.signed_off, false)
)
SELECT
    tenant_id,
    coalesce(issuer, '') AS issuer,
    holder,
    breadth,
    holder AS entity,
    holder || CASE breadth
        WHEN 'audience wildcard' THEN ' holds credentials for any audience'
        WHEN 'audiences' THEN ' holds credentials for ' || CAST(max(servers) AS VARCHAR) || ' audiences'
        WHEN 'scope wildcard' THEN ' holds credentials for every scope'
        WHEN 'scopes' THEN ' holds credentials with ' || CAST(max(scopes_count) AS VARCHAR) || ' scopes'
        ELSE ' holds bearer tokens for critical scopes' END AS title,
    CASE WHEN max(tier) >= 3 THEN 3 ELSE 2 END AS severity,
    max(credential_key) FILTER (WHERE place = 1) AS credential_key,
    min(identity_id) AS identity_id,
    bool_or(coalesce(vendor_hosted, false)) AS vendor_hosted,
    max(environment) FILTER (WHERE place = 1) AS environment,
    max(observer) FILTER (WHERE place = 1) AS observer,
    max(kind) FILTER (WHERE place = 1) AS kind,
    max(array_to_string(audience, ' ')) FILTER (WHERE place = 1) AS audience,
    max(array_to_string(scopes, ' ')) FILTER (WHERE place = 1) AS scopes,
    max(servers) AS audiences_count,
    max(scopes_count) AS scopes_count,
    max(tier) AS tier,
    count(*) AS credentials,
    min(issued_at) AS first_seen,
    max(issued_at) AS last_seen,
    list_sort(list_distinct(flatten(list(event_uids[1:1]) FILTER (
        WHERE recency <= $evidence_max OR place = 1
    )))) AS event_uids
FROM ranked
GROUP BY tenant_id, coalesce(issuer, ''), holder, breadth
