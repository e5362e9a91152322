-- An agent uses or holds more than its sign-off covers, or than it did in the weeks before.
--
-- One row per holder and variant.  Variant `beyond_signoff` compares with the tools, scopes and
-- audiences that the registry states; variant `drift` looks at what it leaves open, and compares
-- the week from the first new item on with the four weeks before.
WITH named AS (
    SELECT name, min(identity_id) AS identity_id
    FROM reg_names
    GROUP BY name
    HAVING count(DISTINCT identity_id) = 1
),
people AS (
    SELECT principal AS name FROM reg_people
    UNION
    SELECT subject_id AS name FROM token_events WHERE subject_kind = 'human'
    UNION
    SELECT subject_id AS name FROM tool_calls WHERE subject_kind = 'human'
),
servers AS (
    SELECT alias, min(server) AS server FROM reg_resource_aliases GROUP BY alias
),
-- Calls by what they reach for, before anything is taken apart or named.
used AS (
    SELECT
        tenant_id, agent_id AS name, tool_name, required_scopes, presented_audience, agent_version,
        date_trunc('day', event_time) AS day, min(event_time) AS first_at, max(event_time) AS last_at,
        arg_min(event_uid, event_time) AS event_uid, max(environment) AS environment,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer
    FROM tool_calls
    -- What was refused is the control at work.
    WHERE outcome NOT IN ('denied', 'failure')
    GROUP BY tenant_id, agent_id, tool_name, required_scopes, presented_audience, agent_version, date_trunc('day', event_time)
),
held AS (
    SELECT
        cred.tenant_id, coalesce(cred.actor_id, cred.client_id) AS name,
        -- Names of these dialects, and of an issuer with a hierarchy, cannot be compared as text.
        CASE WHEN cred.scope_known AND coalesce(cred.scope_dialect, 'exact') NOT IN ('aws', 'policy')
            AND NOT coalesce(issuer.has_hierarchy, false) THEN cred.scopes END AS scopes,
        cred.audience, date_trunc('day', cred.issued_at) AS day, min(cred.issued_at) AS first_at,
        max(cred.issued_at) AS last_at, arg_min(cred.event_uids[1], cred.issued_at) AS event_uid,
        max(cred.environment) AS environment, max(cred.observer) AS observer
    FROM credentials AS cred
    LEFT JOIN reg_issuers AS issuer ON cred.issuer = issuer.issuer
    WHERE cred.seen_issued AND cred.issued_at IS NOT NULL
        AND coalesce(cred.actor_id, cred.client_id) IS NOT NULL
    GROUP BY cred.tenant_id, coalesce(cred.actor_id, cred.client_id),
        CASE WHEN cred.scope_known AND coalesce(cred.scope_dialect, 'exact') NOT IN ('aws', 'policy')
            AND NOT coalesce(issuer.has_hierarchy, false) THEN cred.scopes END,
        cred.audience, date_trunc('day', cred.issued_at)
),
taken_apart AS (
    SELECT tenant_id, name, 'tool' AS what, tool_name AS item, day, first_at, last_at, event_uid, environment, observer
    FROM used
    UNION ALL
    SELECT used.tenant_id, used.name, 'scope' AS what, one.item, used.day, used.first_at, used.last_at, used.event_uid, used.environment, used.observer
    FROM used
    CROSS JOIN unnest(used.required_scopes) AS one(item)
    UNION ALL
    SELECT used.tenant_id, used.name, 'audience' AS what, one.item, used.day, used.first_at, used.last_at, used.event_uid, used.environment, used.observer
    FROM used
    CROSS JOIN unnest(used.presented_audience) AS one(item)
    UNION ALL
    SELECT held.tenant_id, held.name, 'scope' AS what, one.item, held.day, held.first_at, held.last_at, held.event_uid, held.environment, held.observer
    FROM held
    CROSS JOIN unnest(held.scopes) AS one(item)
    UNION ALL
    SELECT held.tenant_id, held.name, 'audience' AS what, one.item, held.day, held.first_at, held.last_at, held.event_uid, held.environment, held.observer
    FROM held
    CROSS JOIN unnest(held.audience) AS one(item)
),
days AS (
    SELECT
        apart.tenant_id, coalesce(named.identity_id, apart.name) AS holder, named.identity_id, apart.what,
        CASE WHEN apart.what = 'audience' THEN coalesce(servers.server, rtrim(apart.item, '/')) ELSE apart.item END AS item,
        apart.day, min(apart.first_at) AS first_at, max(apart.last_at) AS last_at,
        arg_min(apart.event_uid, apart.first_at) AS event_uid,
        max(apart.environment) AS environment, max(apart.observer) AS observer
    FROM taken_apart AS apart
    LEFT JOIN named ON apart.name = named.name
    LEFT JOIN servers ON apart.what = 'audience' AND apart.item = servers.alias
    LEFT JOIN people ON apart.name = people.name
    WHERE people.name IS NULL AND apart.item IS NOT NULL
        AND NOT (apart.what = 'scope'
            AND apart.item IN ('openid', 'profile', 'email', 'address', 'phone', 'offline_access'))
    GROUP BY
        apart.tenant_id, coalesce(named.identity_id, apart.name), named.identity_id, apart.what,
        CASE WHEN apart.what = 'audience' THEN coalesce(servers.server, rtrim(apart.item, '/')) ELSE apart.item END,
        apart.day
),
implied AS (
    SELECT scope, implies FROM reg_scope_implications
    UNION
    SELECT one.scope, two.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    UNION
    SELECT one.scope, three.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    INNER JOIN reg_scope_implications AS three ON two.implies = three.scope
),
-- What the sign-off states, by period; a list that is not there leaves its question open.
stated AS (
    SELECT identity_id, valid_from, valid_to, class, vendor_hosted, 'tool' AS what,
        list_concat(expected_tools, coalesce(ambient_tools, CAST([] AS VARCHAR[]))) AS allowed
    FROM reg_identities_as_of WHERE expected_tools IS NOT NULL
    UNION ALL
    SELECT identity_id, valid_from, valid_to, class, vendor_hosted, 'scope' AS what, scope_ceiling AS allowed
    FROM reg_identities_as_of WHERE scope_ceiling IS NOT NULL
    UNION ALL
    SELECT identity_id, valid_from, valid_to, class, vendor_hosted, 'audience' AS what, expected_audiences AS allowed
    FROM reg_identities_as_of WHERE expected_audiences IS NOT NULL
),
patterns AS (
    SELECT stated.identity_id, stated.valid_from, stated.what,
        CASE WHEN stated.what = 'audience' THEN coalesce(servers.server, rtrim(one.pattern, '/')) ELSE one.pattern END AS pattern
    FROM stated
    CROSS JOIN unnest(stated.allowed) AS one(pattern)
    LEFT JOIN servers ON stated.what = 'audience' AND one.pattern = servers.alias
    UNION
    SELECT stated.identity_id, stated.valid_from, stated.what, implied.implies AS pattern
    FROM stated
    CROSS JOIN unnest(stated.allowed) AS one(pattern)
    INNER JOIN implied ON stated.what = 'scope' AND one.pattern = implied.scope
),
versions AS (
    SELECT
        used.tenant_id, named.identity_id, used.agent_version AS version, min(used.first_at) AS since,
        min(min(used.first_at)) OVER (PARTITION BY used.tenant_id, named.identity_id) AS known_since
    FROM used
    INNER JOIN named ON used.name = named.name
    WHERE used.agent_version IS NOT NULL
    GROUP BY used.tenant_id, named.identity_id, used.agent_version
),
-- A newer version of the agent for which its class has a sign-off explains what came with it:
-- one that names the version, or one given shortly before it appeared.
releases AS (
    SELECT versions.tenant_id, versions.identity_id, versions.since, sign.signed_at, sign.expires_at
    FROM versions
    INNER JOIN reg_identities AS identity ON versions.identity_id = identity.identity_id
    INNER JOIN reg_signoffs AS sign
        ON identity.class = sign.class
        AND (versions.version = sign.version
            OR (sign.signed_at > versions.known_since AND sign.signed_at <= versions.since
                AND epoch(versions.since) - epoch(sign.signed_at) <= $release_d * 86400))
    WHERE versions.since > versions.known_since
),
firsts AS (
    SELECT
        tenant_id, holder, what, item, min(first_at) AS first_at
    FROM days
    GROUP BY tenant_id, holder, what, item
),
released AS (
    SELECT DISTINCT firsts.tenant_id, firsts.holder, firsts.what, firsts.item
    FROM firsts
    INNER JOIN releases
        ON firsts.tenant_id = releases.tenant_id AND firsts.holder = releases.identity_id
        -- Its tokens may be fetched a little before its first call.
        AND epoch(firsts.first_at) >= epoch(releases.since) - 3600
        AND epoch(firsts.first_at) - epoch(releases.since) <= $release_d * 86400
        AND firsts.first_at >= releases.signed_at AND firsts.first_at < releases.expires_at
),
judged AS (
    SELECT
        days.tenant_id, days.holder, days.identity_id, days.what, days.item, days.day, days.first_at,
        days.last_at, days.event_uid, days.environment, days.observer,
        bool_or(stated.identity_id IS NOT NULL) AS is_stated,
        bool_or(patterns.pattern IS NOT NULL) AS is_allowed,
        bool_or(released.item IS NOT NULL) AS is_released,
        max(stated.class) AS class
    FROM days
    LEFT JOIN stated
        ON days.identity_id = stated.identity_id AND days.what = stated.what
        AND days.first_at >= stated.valid_from AND days.first_at < stated.valid_to
    LEFT JOIN patterns
        ON stated.identity_id = patterns.identity_id AND stated.valid_from = patterns.valid_from
        AND stated.what = patterns.what
        AND (days.item = patterns.pattern
            OR (patterns.pattern LIKE '%*'
                AND starts_with(days.item, left(patterns.pattern, length(patterns.pattern) - 1))))
    LEFT JOIN released
        ON days.tenant_id = released.tenant_id AND days.holder = released.holder
        AND days.what = released.what AND days.item = released.item
    GROUP BY
        days.tenant_id, days.holder, days.identity_id, days.what, days.item, days.day, days.first_at,
        days.last_at, days.event_uid, days.environment, days.observer
),
open_days AS (
    SELECT
        *,
        lag(first_at) OVER (PARTITION BY tenant_id, holder, what, item ORDER BY first_at) AS before_at,
        min(first_at) OVER (PARTITION BY tenant_id, holder) AS known_since
    FROM judged
    WHERE NOT is_stated
),
-- A week begins at each item that four weeks had not seen, for a holder known that long.
anchors AS (
    SELECT DISTINCT tenant_id, holder, day AS begins
    FROM open_days
    WHERE (before_at IS NULL OR epoch(first_at) - epoch(before_at) > $baseline_d * 86400)
        AND epoch(day) - epoch(known_since) >= ($baseline_d - 1) * 86400
),
weeks AS (
    SELECT
        anchors.tenant_id, anchors.holder, anchors.begins, seen.what, seen.item,
        bool_or(seen.day < anchors.begins) AS was_before, bool_or(seen.day >= anchors.begins) AS is_now,
        bool_or(seen.is_released) AS is_released,
        min(seen.first_at) FILTER (WHERE seen.day >= anchors.begins) AS first_at,
        max(seen.last_at) FILTER (WHERE seen.day >= anchors.begins) AS last_at,
        arg_min(seen.event_uid, seen.first_at) FILTER (WHERE seen.day >= anchors.begins) AS event_uid,
        max(seen.environment) AS environment, max(seen.observer) AS observer
    FROM anchors
    INNER JOIN open_days AS seen
        ON anchors.tenant_id = seen.tenant_id AND anchors.holder = seen.holder
        AND epoch(seen.day) - epoch(anchors.begins) < 7 * 86400
        AND epoch(anchors.begins) - epoch(seen.day) <= $baseline_d * 86400
    GROUP BY anchors.tenant_id, anchors.holder, anchors.begins, seen.what, seen.item
),
-- What a signed-off release brought belongs to neither side.
drifts AS (
    SELECT
        tenant_id, holder, begins,
        count(*) FILTER (WHERE was_before AND is_now) AS in_both,
        count(*) AS in_any,
        count(*) FILTER (WHERE is_now) AS items_now,
        count(*) FILTER (WHERE was_before) AS items_before
    FROM weeks
    WHERE was_before OR NOT is_released
    GROUP BY tenant_id, holder, begins
    HAVING count(*) FILTER (WHERE is_now) > count(*) FILTER (WHERE was_before)
        AND count(*) FILTER (WHERE was_before) > 0
        AND count(*) FILTER (WHERE is_now) >= $drift_min_items
        AND count(*) FILTER (WHERE was_before AND is_now) < $jaccard_min * count(*)
),
added AS (
    SELECT
        'beyond_signoff' AS variant, tenant_id, holder, what, item, first_at, last_at, event_uid, environment, observer,
        CAST(NULL AS BIGINT) AS items_now, CAST(NULL AS BIGINT) AS items_before
    FROM judged
    WHERE is_stated AND NOT is_allowed AND NOT is_released
    UNION ALL
    SELECT
        'drift' AS variant, weeks.tenant_id, weeks.holder, weeks.what, weeks.item, weeks.first_at, weeks.last_at,
        weeks.event_uid, weeks.environment, weeks.observer, drifts.items_now, drifts.items_before
    FROM drifts
    INNER JOIN weeks
        ON drifts.tenant_id = weeks.tenant_id AND drifts.holder = weeks.holder AND drifts.begins = weeks.begins
    WHERE weeks.is_now AND NOT weeks.was_before AND NOT weeks.is_released
),
rated AS (
    SELECT scope, max(tier) AS tier FROM reg_scope_tiers GROUP BY scope
),
ranked AS (
    SELECT
        added.*, rated.tier,
        row_number() OVER (
            PARTITION BY added.variant, added.tenant_id, added.holder ORDER BY added.first_at, added.what, added.item
        ) AS place
    FROM added
    LEFT JOIN rated ON added.what = 'scope' AND added.item = rated.scope
)
SELECT
    ranked.tenant_id,
    ranked.variant,
    ranked.holder,
    ranked.holder AS entity,
    ranked.holder || CASE WHEN ranked.variant = 'drift' THEN ' reaches for much that it never did: '
        ELSE ' goes beyond its sign-off: ' END
        || max(ranked.what || ' ' || ranked.item) FILTER (WHERE ranked.place = 1)
        || CASE WHEN count(DISTINCT ranked.what || ' ' || ranked.item) > 1
            THEN ' and ' || CAST(count(DISTINCT ranked.what || ' ' || ranked.item) - 1 AS VARCHAR) || ' more' ELSE '' END AS title,
    CASE WHEN max(ranked.tier) >= 3 THEN 3 ELSE 2 END AS severity,
    max(policy.identity_id) AS identity_id,
    max(policy.class) AS class,
    bool_or(coalesce(policy.vendor_hosted, false)) AS vendor_hosted,
    max(ranked.environment) AS environment,
    max(ranked.observer) AS observer,
    list_sort(list_distinct(list(ranked.what || ' ' || ranked.item)))[1:$evidence_max] AS added,
    max(ranked.items_now) AS items_now,
    max(ranked.items_before) AS items_before,
    coalesce(max(ranked.tier), 0) AS tier,
    min(ranked.first_at) AS first_seen,
    max(ranked.last_at) AS last_seen,
    list_sort(list_distinct(list(ranked.event_uid) FILTER (WHERE ranked.place <= $evidence_max))) AS event_uids
FROM ranked
LEFT JOIN reg_identities AS policy ON ranked.holder = policy.identity_id
GROUP BY ranked.tenant_id, ranked.variant, ranked.holder
