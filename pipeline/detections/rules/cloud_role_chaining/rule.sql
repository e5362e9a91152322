-- A cloud role was assumed from another role, upwards, or into an account that nobody allows.
--
-- One row per principal behind it, source role and target role.  Registered role edges are left
-- out; without registered trust or role edges a foreign account alone says nothing.
WITH assumed AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.hop_time, hop.confidence, hop.event_uids,
        target.actor_id AS target_role, target.id AS target_id, target.subject_id, target.scopes AS target_scopes,
        target.issued_at, target.expires_at, target.environment, target.observer,
        target.event_uids AS target_events, target.from_trust_domain, target.to_trust_domain,
        coalesce(origin.actor_id, origin.client_id, origin.subject_id, hop.delegator, origin.id) AS source_role,
        origin.scopes AS source_scopes, origin.event_uids AS source_events, origin.subject_id AS source_subject
    FROM hops AS hop
    INNER JOIN credentials AS target
        ON hop.tenant_id = target.tenant_id AND hop.child_key = target.credential_key
    INNER JOIN credentials AS origin
        ON hop.tenant_id = origin.tenant_id AND hop.parent_key = origin.credential_key
    WHERE hop.hop_kind = 'assume'
),
-- A role is named by its ARN where one is told; a session's ARN names its role, too.
role_names AS (
    SELECT
        assumed.*,
        list_extract(list_filter(
            [target_role, subject_id], lambda x: contains(coalesce(x, ''), ':role/') OR contains(coalesce(x, ''), ':assumed-role/')
        ), 1) AS target_arn,
        list_extract(list_filter(
            [source_role, source_subject], lambda x: contains(coalesce(x, ''), ':role/') OR contains(coalesce(x, ''), ':assumed-role/')
        ), 1) AS source_arn
    FROM assumed
),
named AS (
    SELECT
        role_names.* EXCLUDE (source_role),
        coalesce(CASE WHEN contains(target_arn, ':assumed-role/')
            THEN 'arn:aws:iam::' || regexp_extract(target_arn, '::(\d+):', 1) || ':role/'
                || regexp_extract(target_arn, ':assumed-role/([^/]+)', 1)
            ELSE target_arn END, target_role, subject_id, target_id) AS target_name,
        coalesce(CASE WHEN contains(source_arn, ':assumed-role/')
            THEN 'arn:aws:iam::' || regexp_extract(source_arn, '::(\d+):', 1) || ':role/'
                || regexp_extract(source_arn, ':assumed-role/([^/]+)', 1)
            ELSE source_arn END, source_role) AS source_role,
        -- An ARN is the cloud's own name of who assumed the role, not who stands behind it.
        CASE WHEN NOT starts_with(coalesce(subject_id, ''), 'arn:') THEN subject_id END AS told_subject,
        nullif(regexp_extract(coalesce(target_arn, target_role, ''), '^arn:[^:]*:[a-z]+::(\d+):', 1), '') AS target_account,
        nullif(regexp_extract(coalesce(source_arn, source_role, ''), '^arn:[^:]*:[a-z]+::(\d+):', 1), '') AS source_account
    FROM role_names
),
-- What the two sessions are called, and whether somebody's identity was handed on.
sessions AS (
    SELECT
        event.tenant_id, alias.credential_key,
        min(coalesce(event.ext['roleSessionName'], event.ext['role_session_name'], event.ext['session_name'])) AS session_name,
        min(coalesce(event.ext['grantedSourceIdentity'], event.ext['sourceIdentity'], event.ext['source_identity'])) AS source_identity
    FROM token_events AS event
    INNER JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.credential_id = alias.id
        AND event.credential_kind = alias.kind AND event.credential_issuer IS NOT DISTINCT FROM alias.issuer
    WHERE event.op = 'assume' AND event.outcome = 'success'
    GROUP BY event.tenant_id, alias.credential_key
),
-- How often the chain has changed roles: once from what started it is no chaining.
counted AS (
    SELECT step.tenant_id, step.child_key, count(*) AS assume_hops
    FROM (
        SELECT named.tenant_id, named.child_key, unnest(chain.credential_path) AS member
        FROM named
        INNER JOIN chains AS chain
            ON named.tenant_id = chain.tenant_id AND named.child_key = chain.credential_key
    ) AS step
    INNER JOIN named AS above ON step.tenant_id = above.tenant_id AND step.member = above.child_key
    GROUP BY step.tenant_id, step.child_key
),
tiers AS (
    SELECT scope, max(tier) AS tier FROM reg_scope_tiers GROUP BY scope
),
role_tiers AS (
    SELECT held.tenant_id, held.credential_key, max(tiers.tier) AS tier
    FROM (
        SELECT tenant_id, child_key AS credential_key, unnest(list_append(target_scopes, target_name)) AS scope FROM named
        UNION ALL
        SELECT tenant_id, parent_key AS credential_key, unnest(list_append(source_scopes, source_role)) AS scope FROM named
    ) AS held
    INNER JOIN tiers ON held.scope = tiers.scope
    GROUP BY held.tenant_id, held.credential_key
),
permitted AS (
    SELECT DISTINCT named.tenant_id, named.child_key
    FROM named
    INNER JOIN reg_role_edges AS edge
        ON (named.source_role = edge.source OR ends_with(named.source_role, '/' || edge.source))
        AND (named.target_name = edge.target OR ends_with(named.target_name, '/' || edge.target))
        AND (edge.account IS NULL OR named.target_account IS NULL OR named.target_account = edge.account)
        AND (edge.expires_at IS NULL OR edge.expires_at > named.hop_time)
),
trusted AS (
    SELECT DISTINCT named.tenant_id, named.child_key
    FROM named
    INNER JOIN reg_trust_edges AS edge
        ON edge.from_domain IN (named.source_account, named.from_trust_domain)
        AND edge.to_domain IN (named.target_account, named.to_trust_domain)
        AND (edge.valid_from IS NULL OR edge.valid_from <= named.hop_time)
        AND (edge.expires_at IS NULL OR edge.expires_at > named.hop_time)
),
known AS (
    SELECT (SELECT count(*) FROM reg_role_edges) + (SELECT count(*) FROM reg_trust_edges) AS edges
),
required AS (
    SELECT named.tenant_id, named.child_key, bool_or(coalesce(identity.source_identity_required, false)) AS is_required
    FROM named
    INNER JOIN reg_names AS label ON label.name IN (named.target_name, named.source_role)
    INNER JOIN reg_identities_as_of AS identity
        ON label.identity_id = identity.identity_id
        AND named.hop_time >= identity.valid_from AND named.hop_time < identity.valid_to
    GROUP BY named.tenant_id, named.child_key
),
judged AS (
    SELECT
        named.*, counted.assume_hops + CASE WHEN named.source_arn IS NOT NULL AND above.child_key IS NULL THEN 1 ELSE 0 END
            AS assume_hops,
        chain.root_principal, chain.root_key,
        low.tier AS source_tier, high.tier AS target_tier,
        own.session_name, before.session_name AS session_before, own.source_identity,
        coalesce(
            named.source_account <> named.target_account, named.from_trust_domain <> named.to_trust_domain, false
        ) AS crosses_account,
        list_filter([
            -- A role that assumes another had been assumed itself, whether we saw that or not.
            CASE WHEN counted.assume_hops + CASE WHEN named.source_arn IS NOT NULL AND above.child_key IS NULL
                THEN 1 ELSE 0 END >= $chained_hops THEN 'role_chain' END,
            CASE WHEN high.tier > low.tier THEN 'higher_tier' END,
            CASE WHEN known.edges > 0 AND trusted.child_key IS NULL AND coalesce(
                    named.source_account <> named.target_account, named.from_trust_domain <> named.to_trust_domain, false
                ) THEN 'foreign_account' END,
            CASE WHEN coalesce(required.is_required, false)
                AND coalesce(own.source_identity, named.told_subject) IS NULL THEN 'source_identity_missing' END,
            CASE WHEN own.session_name <> before.session_name AND coalesce(own.source_identity, named.told_subject) IS NULL
                THEN 'session_renamed' END
        ], lambda x: x IS NOT NULL) AS reasons
    FROM named
    INNER JOIN chains AS chain ON named.tenant_id = chain.tenant_id AND named.child_key = chain.credential_key
    CROSS JOIN known
    LEFT JOIN counted ON named.tenant_id = counted.tenant_id AND named.child_key = counted.child_key
    LEFT JOIN counted AS above ON named.tenant_id = above.tenant_id AND named.parent_key = above.child_key
    LEFT JOIN role_tiers AS low ON named.tenant_id = low.tenant_id AND named.parent_key = low.credential_key
    LEFT JOIN role_tiers AS high ON named.tenant_id = high.tenant_id AND named.child_key = high.credential_key
    LEFT JOIN sessions AS own ON named.tenant_id = own.tenant_id AND named.child_key = own.credential_key
    LEFT JOIN sessions AS before ON named.tenant_id = before.tenant_id AND named.parent_key = before.credential_key
    LEFT JOIN permitted ON named.tenant_id = permitted.tenant_id AND named.child_key = permitted.child_key
    LEFT JOIN trusted ON named.tenant_id = trusted.tenant_id AND named.child_key = trusted.child_key
    LEFT JOIN required ON named.tenant_id = required.tenant_id AND named.child_key = required.child_key
    WHERE permitted.child_key IS NULL
        -- A session of the same role is renewed, not chained.
        AND NOT coalesce(named.target_arn IS NOT NULL AND named.source_role = named.target_name, false)
),
ranked AS (
    SELECT
        *,
        coalesce(root_principal, 'unknown') AS principal,
        row_number() OVER (
            PARTITION BY tenant_id, coalesce(root_principal, 'unknown'), source_role, target_name
            ORDER BY hop_time, child_key
        ) AS rank
    FROM judged
    WHERE array_length(reasons) > 0
)
SELECT
    tenant_id,
    principal,
    source_role,
    target_name AS target_role,
    principal AS entity,
    principal || ' went from role ' || source_role || ' to ' || target_name AS title,
    CASE WHEN bool_or(crosses_account) THEN 4 ELSE 3 END AS severity,
    max(confidence) AS confidence,
    max(confidence) AS chain_confidence,
    min(child_key) FILTER (WHERE rank = 1) AS credential_key,
    CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
        AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    list_sort(list_distinct(flatten(list(reasons)))) AS reasons,
    max(assume_hops) AS assume_hops,
    max(source_tier) AS source_tier,
    max(target_tier) AS target_tier,
    min(source_account) AS source_account,
    min(target_account) AS target_account,
    list_sort(list_distinct(list(session_name) FILTER (WHERE session_name IS NOT NULL AND rank <= $evidence_max)))
        AS session_names,
    list_sort(list_distinct(list(source_identity) FILTER (WHERE source_identity IS NOT NULL AND rank <= $evidence_max)))
        AS source_identities,
    count(*) AS times,
    min(hop_time) AS first_seen,
    max(hop_time) AS last_seen,
    list_sort(list_distinct(flatten(list(
        list_concat(event_uids, list_concat(target_events, source_events))
    ) FILTER (WHERE rank <= $evidence_max)))) AS event_uids
FROM ranked
GROUP BY tenant_id, principal, source_role, target_name
