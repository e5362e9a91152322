-- A delegation crossed into another trust domain without an edge or a record that allows it.
--
-- One row per reason, both domains and the delegate.  Domains that nobody names are no hop.
-- A valid delegation record stands for an edge; a class may demand the record as well.
WITH known_domains AS (
    SELECT count(*) AS domains
    FROM (
        SELECT trust_domain FROM reg_issuers WHERE trust_domain IS NOT NULL
        UNION
        SELECT from_domain AS trust_domain FROM reg_trust_edges
    ) AS named
),
hop_domains AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.hop_kind, hop.hop_time, hop.confidence, hop.delegate,
        coalesce(child.actor_id, child.client_id, hop.delegate, child.subject_id) AS party,
        child.issuer AS child_issuer, parent.issuer AS parent_issuer,
        child.scopes, child.scope_known, child.audience, child.token_type, child.delegation_record_id,
        child.environment, child.observer, parent.subject_id,
        -- What the hop itself says; else whose logs the two sides are in; else whose issuers.
        coalesce(
            child.from_trust_domain,
            CASE WHEN known_domains.domains > 0 AND child.to_trust_domain IS NULL
                AND child.trust_domain IS NOT NULL THEN parent.trust_domain END,
            CASE WHEN child.to_trust_domain IS NOT NULL THEN parent.trust_domain END,
            CASE WHEN child.to_trust_domain IS NOT NULL OR its.trust_domain IS NOT NULL THEN theirs.trust_domain END
        ) AS from_domain,
        coalesce(
            child.to_trust_domain,
            CASE WHEN child.from_trust_domain IS NOT NULL
                OR (known_domains.domains > 0 AND parent.trust_domain IS NOT NULL) THEN child.trust_domain END,
            CASE WHEN child.from_trust_domain IS NOT NULL OR theirs.trust_domain IS NOT NULL THEN its.trust_domain END
        ) AS to_domain,
        list_concat(hop.event_uids, list_concat(child.event_uids, parent.event_uids)) AS event_uids
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    INNER JOIN credentials AS parent
        ON hop.tenant_id = parent.tenant_id AND hop.parent_key = parent.credential_key
    LEFT JOIN reg_issuers AS its ON child.issuer = its.issuer
    LEFT JOIN reg_issuers AS theirs ON parent.issuer = theirs.issuer
    CROSS JOIN known_domains
),
crossing AS (
    SELECT *
    FROM hop_domains
    -- A role assumed in another account is a question of its own.
    WHERE lower(from_domain) <> lower(to_domain) AND hop_kind NOT IN ('refresh', 'assume')
),
edges AS (
    SELECT
        crossing.tenant_id, crossing.child_key,
        bool_or(
            edge.allowed_scopes IS NULL OR NOT crossing.scope_known
            OR array_length(list_filter(
                crossing.scopes,
                lambda x: x NOT IN ('openid', 'profile', 'email', 'address', 'phone')
                    AND NOT list_contains(edge.allowed_scopes, x)
                    AND array_length(list_filter(edge.allowed_scopes, lambda y: y = '*' OR (
                        (ends_with(y, '.*') OR ends_with(y, ':*')) AND starts_with(x, left(y, length(y) - 1))
                    ))) = 0
            )) = 0
        ) AS is_within
    FROM crossing
    INNER JOIN reg_trust_edges AS edge
        ON lower(crossing.from_domain) = lower(edge.from_domain) AND lower(crossing.to_domain) = lower(edge.to_domain)
        AND (edge.issuer IS NULL OR edge.issuer IN (crossing.parent_issuer, crossing.child_issuer))
        AND (edge.valid_from IS NULL OR edge.valid_from <= crossing.hop_time)
        AND (edge.expires_at IS NULL OR edge.expires_at > crossing.hop_time)
    GROUP BY crossing.tenant_id, crossing.child_key
),
delegates AS (
    SELECT crossing.tenant_id, crossing.child_key, named.identity_id,
        coalesce(identity.delegation_record_required, false) AS needs_record, identity.vendor_hosted
    FROM crossing
    INNER JOIN reg_names AS named ON crossing.party = named.name
    INNER JOIN reg_identities_as_of AS identity
        ON named.identity_id = identity.identity_id
        AND crossing.hop_time >= identity.valid_from AND crossing.hop_time < identity.valid_to
),
needing AS (
    SELECT tenant_id, child_key, bool_or(needs_record) AS needs_record, bool_or(vendor_hosted) AS vendor_hosted
    FROM delegates
    GROUP BY tenant_id, child_key
),
recorded AS (
    SELECT DISTINCT crossing.tenant_id, crossing.child_key
    FROM crossing
    INNER JOIN reg_delegation_records AS record
        ON crossing.delegation_record_id = record.id AND record.status = 'active'
        AND (record.not_before IS NULL OR record.not_before <= crossing.hop_time)
        AND (record.not_after IS NULL OR record.not_after > crossing.hop_time)
    LEFT JOIN delegates
        ON crossing.tenant_id = delegates.tenant_id AND crossing.child_key = delegates.child_key
        AND record.delegate = delegates.identity_id
    WHERE (record.delegate = crossing.party OR delegates.identity_id IS NOT NULL)
        AND (record.audience IS NULL OR array_length(record.audience) = 0 OR array_length(crossing.audience) = 0
            OR array_length(list_filter(crossing.audience, lambda x: list_contains(record.audience, x))) > 0)
        AND (record.scopes IS NULL OR array_length(record.scopes) = 0 OR NOT crossing.scope_known
            OR array_length(list_filter(crossing.scopes, lambda x: NOT list_contains(record.scopes, x)
                AND x NOT IN ('openid', 'profile', 'email', 'address', 'phone'))) = 0)
),
judged AS (
    SELECT
        crossing.*, needing.vendor_hosted,
        CASE
            WHEN coalesce(needing.needs_record, false) AND recorded.child_key IS NULL THEN 'record_missing'
            WHEN recorded.child_key IS NULL AND edges.child_key IS NULL THEN 'no_edge'
            WHEN recorded.child_key IS NULL AND NOT edges.is_within THEN 'beyond_edge'
            WHEN contains(lower(coalesce(crossing.token_type, '')), 'refresh_token') THEN 'refresh_token'
        END AS reason
    FROM crossing
    LEFT JOIN edges ON crossing.tenant_id = edges.tenant_id AND crossing.child_key = edges.child_key
    LEFT JOIN needing ON crossing.tenant_id = needing.tenant_id AND crossing.child_key = needing.child_key
    LEFT JOIN recorded ON crossing.tenant_id = recorded.tenant_id AND crossing.child_key = recorded.child_key
),
-- The target domain renews what it got by a grant of another: the grant's life no longer binds it.
renewed AS (
    SELECT
        hop.tenant_id, 'refresh_token' AS reason, crossing.from_domain, crossing.to_domain, crossing.party,
        hop.child_key, hop.hop_time, least(hop.confidence, crossing.confidence) AS confidence, crossing.vendor_hosted,
        crossing.scopes, crossing.audience, crossing.subject_id, crossing.environment, crossing.observer,
        crossing.delegation_record_id, list_concat(hop.event_uids, crossing.event_uids) AS event_uids
    FROM hops AS hop
    INNER JOIN judged AS crossing
        ON hop.tenant_id = crossing.tenant_id AND hop.parent_key = crossing.child_key
    WHERE hop.hop_kind = 'refresh' AND crossing.reason IS NULL
),
all_found AS (
    SELECT tenant_id, reason, from_domain, to_domain, party, child_key, hop_time, confidence, vendor_hosted, scopes,
        audience, subject_id, environment, observer, delegation_record_id, event_uids
    FROM judged
    WHERE reason IS NOT NULL
    UNION ALL
    SELECT tenant_id, reason, from_domain, to_domain, party, child_key, hop_time, confidence, vendor_hosted, scopes,
        audience, subject_id, environment, observer, delegation_record_id, event_uids
    FROM renewed
),
tiers AS (
    SELECT found.tenant_id, found.child_key, max(catalogue.tier) AS tier
    FROM (SELECT tenant_id, child_key, unnest(scopes) AS scope FROM all_found) AS found
    INNER JOIN reg_scope_tiers AS catalogue ON found.scope = catalogue.scope
    GROUP BY found.tenant_id, found.child_key
),
ranked AS (
    SELECT
        all_found.*, coalesce(tiers.tier, 0) AS tier, coalesce(all_found.party, 'unknown') AS delegate,
        row_number() OVER (
            PARTITION BY all_found.tenant_id, all_found.reason, all_found.from_domain, all_found.to_domain, all_found.party
            ORDER BY all_found.hop_time, all_found.child_key
        ) AS rank
    FROM all_found
    LEFT JOIN tiers ON all_found.tenant_id = tiers.tenant_id AND all_found.child_key = tiers.child_key
)
SELECT
    tenant_id,
    reason,
    from_domain,
    to_domain,
    delegate,
    delegate AS entity,
    delegate || ' got authority in ' || to_domain || ' from ' || from_domain || CASE reason
        WHEN 'no_edge' THEN ', which no trust edge allows'
        WHEN 'beyond_edge' THEN ', more than the trust edge allows'
        WHEN 'record_missing' THEN ' without the delegation record that its class needs'
        ELSE ', and may renew it there for itself'
    END AS title,
    CASE WHEN max(tier) >= $sensitive_tier THEN 4 ELSE 3 END AS severity,
    max(confidence) AS confidence,
    max(confidence) AS chain_confidence,
    bool_or(coalesce(vendor_hosted, false)) AS vendor_hosted,
    min(child_key) FILTER (WHERE rank = 1) AS credential_key,
    CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
        AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    count(*) AS times,
    max(tier) AS tier,
    list_sort(list_distinct(flatten(list(scopes) FILTER (WHERE rank <= $evidence_max)))) AS scopes,
    list_sort(list_distinct(flatten(list(audience) FILTER (WHERE rank <= $evidence_max)))) AS audience,
    list_sort(list_distinct(list(subject_id) FILTER (WHERE subject_id IS NOT NULL AND rank <= $evidence_max))) AS subjects,
    list_sort(list_distinct(list(delegation_record_id) FILTER (WHERE delegation_record_id IS NOT NULL))) AS record_ids,
    min(hop_time) AS first_seen,
    max(hop_time) AS last_seen,
    list_sort(list_distinct(flatten(list(event_uids) FILTER (WHERE rank <= $evidence_max)))) AS event_uids
FROM ranked
GROUP BY tenant_id, reason, from_domain, to_domain, delegate
