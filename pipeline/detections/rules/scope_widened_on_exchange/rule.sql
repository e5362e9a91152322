-- A delegate received a scope that its delegator did not hold.
--
-- One row per hop that widens.  A hop that merely carries, or loses and regains, what an
-- earlier hop widened is a consequence of that finding and no finding of its own.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
derived AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.compared_key, hop.hop_kind, hop.method,
        hop.delegator, hop.delegate, hop.hop_time, hop.attenuation, hop.widened_scopes,
        hop.parent_scopes, hop.child_scopes, hop.event_uids,
        chain.root_principal, chain.root_attenuation, chain.credential_path, chain.confidence
    FROM hops AS hop
    INNER JOIN chains AS chain
        ON hop.tenant_id = chain.tenant_id AND hop.child_key = chain.credential_key
    WHERE hop.hop_kind IN ('exchange', 'assume', 'delegate', 'assertion', 'refresh')
        AND hop.attenuation IN ('not_covered', 'unknown')
),
widening AS (
    SELECT * FROM derived WHERE attenuation = 'not_covered'
),
carried AS (
    SELECT hop.child_key, list_distinct(flatten(list(above.widened_scopes))) AS scopes
    FROM widening AS hop
    CROSS JOIN unnest(hop.credential_path) AS step(credential_key)
    INNER JOIN widening AS above
        ON step.credential_key = above.child_key AND above.child_key <> hop.child_key
    GROUP BY hop.child_key
),
first_widening AS (
    SELECT
        hop.*,
        list_filter(
            hop.widened_scopes,
            lambda x: NOT list_contains(coalesce(carried.scopes, CAST([] AS VARCHAR[])), x)
        ) AS new_scopes
    FROM widening AS hop
    LEFT JOIN carried ON hop.child_key = carried.child_key
),
-- Where names cannot be compared, the catalogue can still say that the child is worth more.
sides AS (
    SELECT child_key, 'child' AS side, child_key AS credential_key, child_scopes AS scopes
    FROM derived WHERE attenuation = 'unknown'
    UNION ALL
    SELECT child_key, 'parent' AS side, compared_key AS credential_key, parent_scopes AS scopes
    FROM derived WHERE attenuation = 'unknown'
),
side_scopes AS (
    SELECT sides.child_key, sides.side, held.issuer, held.audience, item.scope
    FROM sides
    INNER JOIN credentials AS held ON sides.credential_key = held.credential_key
    CROSS JOIN unnest(sides.scopes) AS item(scope)
    WHERE held.scope_known
),
side_tiers AS (
    SELECT
        asked.child_key,
        max(catalogue.tier) FILTER (WHERE asked.side = 'child') AS child_tier,
        max(catalogue.tier) FILTER (WHERE asked.side = 'parent') AS parent_tier,
        -- A parent's scope without a tier could be worth anything: then nothing is said.
        count(*) FILTER (WHERE asked.side = 'parent' AND catalogue.tier IS NULL) AS unrated
    FROM side_scopes AS asked
    LEFT JOIN reg_scope_tiers AS catalogue
        ON asked.scope = catalogue.scope
        AND (catalogue.issuer IS NULL OR catalogue.issuer = asked.issuer)
        AND (catalogue.audience IS NULL OR list_contains(asked.audience, catalogue.audience))
    GROUP BY asked.child_key
),
found AS (
    SELECT
        tenant_id, child_key, parent_key, compared_key, hop_kind, method, delegator, delegate,
        hop_time, parent_scopes, child_scopes, event_uids, root_principal, confidence, new_scopes,
        CASE WHEN root_attenuation = 'covered' THEN 'regained' ELSE 'widened' END AS variant,
        CASE WHEN root_attenuation = 'covered' THEN 3 ELSE 4 END AS severity
    FROM first_widening
    WHERE array_length(new_scopes) > 0
    UNION ALL
    SELECT
        derived.tenant_id, derived.child_key, derived.parent_key, derived.compared_key,
        derived.hop_kind, derived.method, derived.delegator, derived.delegate, derived.hop_time,
        derived.parent_scopes, derived.child_scopes, derived.event_uids, derived.root_principal,
        derived.confidence, derived.child_scopes AS new_scopes,
        'higher_tier' AS variant, 2 AS severity
    FROM derived
    INNER JOIN side_tiers AS tiers ON derived.child_key = tiers.child_key
    WHERE derived.attenuation = 'unknown'
        AND tiers.child_tier > tiers.parent_tier AND tiers.unrated = 0
),
-- An equally likely other parent that held the scope: true of some parents, not of all.
doubt AS (
    SELECT
        found.child_key,
        bool_or(array_length(list_filter(
            found.new_scopes, lambda x: NOT list_contains(coalesce(other.scopes, CAST([] AS VARCHAR[])), x)
        )) = 0) AS possible
    FROM found
    INNER JOIN hop_candidates AS candidate
        ON found.child_key = candidate.child_key AND candidate.reason = 'ambiguous'
    INNER JOIN credentials AS other ON candidate.parent_key = other.credential_key
    GROUP BY found.child_key
),
impact AS (
    SELECT found.child_key, max(catalogue.action_class) AS action_class
    FROM found
    CROSS JOIN unnest(found.new_scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue ON item.scope = catalogue.scope
    WHERE catalogue.action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
    GROUP BY found.child_key
),
holder AS (
    SELECT found.child_key, min(names.identity_id) AS identity_id
    FROM found
    INNER JOIN credentials AS child ON found.child_key = child.credential_key
    INNER JOIN names
        ON found.delegate = names.subject
        AND (names.issuer IS NULL OR child.actor_issuer IS NULL OR names.issuer = child.actor_issuer)
    GROUP BY found.child_key
)
SELECT
    found.tenant_id,
    found.child_key,
    found.variant,
    coalesce(found.delegate, child.id) AS entity,
    coalesce(found.delegate, 'unknown') || CASE found.variant
        WHEN 'regained' THEN ' regained scope that an earlier hop had taken away: '
        WHEN 'higher_tier' THEN ' received scope of a higher tier than its delegator held: '
        ELSE ' received scope that its delegator did not hold: '
    END || array_to_string(list_sort(found.new_scopes), ' ') AS title,
    found.severity,
    coalesce(doubt.possible, false) AS possible,
    found.confidence,
    found.confidence AS chain_confidence,
    found.child_key AS credential_key,
    holder.identity_id,
    impact.action_class,
    coalesce(identity.vendor_hosted, false) AS vendor_hosted,
    coalesce(child.from_trust_domain <> child.to_trust_domain, false)
        OR coalesce(child.trust_domain <> parent.trust_domain, false) AS cross_domain,
    child.environment,
    child.observer,
    found.delegator,
    found.delegate,
    found.hop_kind,
    found.method,
    found.parent_key,
    list_sort(found.new_scopes) AS widened_scopes,
    found.parent_scopes,
    found.child_scopes,
    child.requested_scopes,
    child.audience,
    found.root_principal,
    found.hop_time AS first_seen,
    found.hop_time AS last_seen,
    list_sort(list_distinct(list_concat(
        found.event_uids, list_concat(child.event_uids, parent.event_uids)
    ))) AS event_uids
FROM found
INNER JOIN credentials AS child ON found.child_key = child.credential_key
INNER JOIN credentials AS parent ON found.compared_key = parent.credential_key
LEFT JOIN doubt ON found.child_key = doubt.child_key
LEFT JOIN impact ON found.child_key = impact.child_key
LEFT JOIN holder ON found.child_key = holder.child_key
LEFT JOIN reg_identities AS identity ON holder.identity_id = identity.identity_id
