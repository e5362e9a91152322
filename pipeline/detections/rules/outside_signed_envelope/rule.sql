-- An agent acted outside of what it is signed off for: another tool, audience, scope or
-- environment.
--
-- One row per agent and kind of excess, with the items.  What the registry does not say about
-- an agent is not limited, what was denied did not happen, and a registered emergency
-- (break_glass) may go beyond.
WITH implied AS (
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
more_scopes AS (
    SELECT identity.identity_id, identity.valid_from, list(DISTINCT implied.implies) AS scopes
    FROM reg_identities_as_of AS identity
    CROSS JOIN unnest(identity.scope_ceiling) AS ceiling(scope)
    INNER JOIN implied ON ceiling.scope = implied.scope
    GROUP BY identity.identity_id, identity.valid_from
),
same_server AS (
    SELECT server AS name, alias AS other FROM reg_resource_aliases
    UNION
    SELECT alias AS name, server AS other FROM reg_resource_aliases
    UNION
    SELECT one.alias AS name, two.alias AS other
    FROM reg_resource_aliases AS one
    INNER JOIN reg_resource_aliases AS two ON one.server = two.server
),
more_audiences AS (
    SELECT identity.identity_id, identity.valid_from,
        list(DISTINCT lower(rtrim(same_server.other, '/'))) AS audiences
    FROM reg_identities_as_of AS identity
    CROSS JOIN unnest(identity.expected_audiences) AS expected(audience)
    INNER JOIN same_server
        ON lower(rtrim(expected.audience, '/')) = lower(rtrim(same_server.name, '/'))
    GROUP BY identity.identity_id, identity.valid_from
),
envelopes AS (
    SELECT
        identity.identity_id, identity.valid_from, identity.valid_to, identity.class, identity.vendor_hosted,
        -- Null says nothing, and must stay null: an empty list would forbid everything.
        CASE WHEN identity.expected_tools IS NOT NULL THEN
            list_concat(identity.expected_tools, coalesce(identity.ambient_tools, CAST([] AS VARCHAR[])))
        END AS tools,
        CASE WHEN identity.expected_audiences IS NOT NULL THEN list_concat(
            list_transform(identity.expected_audiences, lambda x: lower(rtrim(x, '/'))),
            coalesce(more_audiences.audiences, CAST([] AS VARCHAR[]))
        ) END AS audiences,
        CASE WHEN identity.scope_ceiling IS NOT NULL THEN
            list_concat(identity.scope_ceiling, coalesce(more_scopes.scopes, CAST([] AS VARCHAR[])))
        END AS scopes,
        CASE WHEN coalesce(identity.environment, 'unknown') <> 'unknown' THEN
            list_concat([identity.environment], coalesce(identity.environments, CAST([] AS VARCHAR[])))
        END AS environments
    FROM reg_identities_as_of AS identity
    LEFT JOIN more_audiences
        ON identity.identity_id = more_audiences.identity_id AND identity.valid_from = more_audiences.valid_from
    LEFT JOIN more_scopes
        ON identity.identity_id = more_scopes.identity_id AND identity.valid_from = more_scopes.valid_from
    WHERE identity.expected_tools IS NOT NULL OR identity.expected_audiences IS NOT NULL
        OR identity.scope_ceiling IS NOT NULL OR identity.environment IS NOT NULL
),
bearers AS (
    SELECT tenant_id, agent_id AS name, agent_issuer AS issuer
    FROM tool_calls
    GROUP BY tenant_id, agent_id, agent_issuer
    UNION
    SELECT tenant_id, coalesce(actor_id, client_id) AS name, actor_issuer AS issuer
    FROM credentials
    WHERE coalesce(actor_id, client_id) IS NOT NULL
),
names AS (
    SELECT seen.tenant_id, seen.name, seen.issuer,
        coalesce(min(named.identity_id) FILTER (WHERE named.issuer = seen.issuer), min(named.identity_id))
            AS identity_id
    FROM bearers AS seen
    INNER JOIN reg_names AS named
        ON seen.name = named.name
        AND (named.issuer IS NULL OR seen.issuer IS NULL OR named.issuer = seen.issuer)
    GROUP BY seen.tenant_id, seen.name, seen.issuer
    HAVING coalesce(
        nullif(count(DISTINCT named.identity_id) FILTER (WHERE named.issuer = seen.issuer), 0),
        count(DISTINCT named.identity_id)
    ) = 1
),
acts AS (
    SELECT
        tenant_id, event_uid, event_time, observer, environment, action_class, resource_sensitivity,
        agent_id AS name, agent_issuer AS issuer, tool_name, tool_server, presented_audience AS audience,
        CASE WHEN coalesce(known_issuer.has_hierarchy, false) THEN CAST([] AS VARCHAR[])
            ELSE list_concat(
                coalesce(required_scopes, CAST([] AS VARCHAR[])), coalesce(presented_scopes, CAST([] AS VARCHAR[]))
            )
        END AS scopes
    FROM tool_calls
    LEFT JOIN reg_issuers AS known_issuer ON tool_calls.credential_issuer = known_issuer.issuer
    WHERE outcome <> 'denied' AND coalesce(decision_effect, 'none') <> 'deny'
    UNION ALL
    SELECT
        tenant_id, event_uids[1] AS event_uid, coalesce(issued_at, first_seen) AS event_time, observer,
        -- The environment of a token is that of its issuer.
        CAST(NULL AS VARCHAR) AS environment, CAST(NULL AS VARCHAR) AS action_class,
        CAST(NULL AS INTEGER) AS resource_sensitivity,
        coalesce(actor_id, client_id) AS name, actor_issuer AS issuer, CAST(NULL AS VARCHAR) AS tool_name,
        CAST(NULL AS VARCHAR) AS tool_server, audience,
        -- Names of these dialects cannot be compared as text; a refresh repeats what was granted.
        CASE WHEN NOT scope_known OR coalesce(scope_dialect, 'exact') IN ('aws', 'policy')
                OR coalesce(issue_op, 'issue') = 'refresh' OR coalesce(known_issuer.has_hierarchy, false)
            THEN CAST([] AS VARCHAR[])
            ELSE scopes
        END AS scopes
    FROM credentials
    LEFT JOIN reg_issuers AS known_issuer ON credentials.issuer = known_issuer.issuer
    WHERE seen_issued AND coalesce(actor_id, client_id) IS NOT NULL
        AND (array_length(audience) > 0 OR array_length(scopes) > 0)
),
-- DISTINCT changes no row: without it the planner pairs acts and names by their tenant.
signed AS (
    SELECT DISTINCT names.tenant_id, names.name, coalesce(names.issuer, '') AS issuer, envelopes.*
    FROM names
    INNER JOIN envelopes ON names.identity_id = envelopes.identity_id
),
outside AS (
    SELECT
        acts.tenant_id, envelope.identity_id, acts.event_uid, acts.event_time, acts.observer, acts.environment,
        acts.action_class, acts.resource_sensitivity, envelope.class, envelope.vendor_hosted,
        CASE WHEN envelope.tools IS NOT NULL AND acts.tool_name IS NOT NULL AND array_length(list_filter(
            envelope.tools,
            lambda x: x = acts.tool_name
                OR x IN (
                    acts.tool_server || '.' || acts.tool_name, acts.tool_server || '/' || acts.tool_name,
                    acts.tool_server || ':' || acts.tool_name
                )
                OR (ends_with(x, '*') AND starts_with(acts.tool_name, left(x, length(x) - 1)))
        )) = 0 THEN [acts.tool_name] END AS tools,
        CASE WHEN envelope.audiences IS NOT NULL THEN list_filter(
            acts.audience,
            lambda x: NOT list_contains(envelope.audiences, lower(rtrim(x, '/'))) AND NOT list_contains(envelope.audiences, '*')
        ) END AS audiences,
        CASE WHEN envelope.scopes IS NOT NULL THEN list_filter(
            acts.scopes,
            lambda x: NOT list_contains(envelope.scopes, x)
                AND x NOT IN ('openid', 'profile', 'email', 'address', 'phone', 'offline_access')
                AND array_length(list_filter(
                    envelope.scopes,
                    lambda y: y = '*' OR (
                        (ends_with(y, '.*') OR ends_with(y, ':*') OR ends_with(y, '/*'))
                        AND length(x) >= length(y) AND starts_with(x, left(y, length(y) - 1))
                    )
                )) = 0
        ) END AS scopes,
        CASE WHEN envelope.environments IS NOT NULL AND acts.environment <> 'unknown'
            AND NOT list_contains(envelope.environments, acts.environment) THEN [acts.environment] END AS environments
    FROM acts
    INNER JOIN signed AS envelope
        ON acts.tenant_id = envelope.tenant_id AND acts.name = envelope.name
        AND coalesce(acts.issuer, '') = envelope.issuer
        AND acts.event_time >= envelope.valid_from AND acts.event_time < envelope.valid_to
    LEFT JOIN reg_break_glass AS emergency
        ON envelope.identity_id = emergency.identity_id
        AND acts.event_time >= emergency.since AND acts.event_time < emergency.until
    WHERE emergency.identity_id IS NULL
),
listed AS (
    SELECT *, 'tool' AS excess, tools AS items FROM outside WHERE array_length(tools) > 0
    UNION ALL
    SELECT *, 'audience' AS excess, audiences AS items FROM outside WHERE array_length(audiences) > 0
    UNION ALL
    SELECT *, 'scope' AS excess, scopes AS items FROM outside WHERE array_length(scopes) > 0
    UNION ALL
    SELECT *, 'environment' AS excess, environments AS items FROM outside WHERE array_length(environments) > 0
),
placed AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY tenant_id, identity_id, excess ORDER BY event_time, event_uid) AS place
    FROM listed
),
found AS (
    SELECT
        tenant_id, identity_id, excess, max(class) AS class,
        list_sort(list_distinct(flatten(list(items)))) AS items,
        count(*) AS acts,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        bool_or(coalesce(vendor_hosted, false)) AS vendor_hosted,
        CASE WHEN count(DISTINCT coalesce(environment, 'unknown')) = 1 THEN min(environment) END AS environment,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list(DISTINCT event_uid) FILTER (WHERE place <= $evidence_max)) AS event_uids
    FROM placed
    GROUP BY tenant_id, identity_id, excess
)
SELECT
    tenant_id,
    identity_id,
    excess,
    identity_id AS entity,
    identity_id || ' acted outside its sign-off, ' || excess || ': '
        || array_to_string(items[1:$evidence_max], ', ') AS title,
    action_class,
    resource_sensitivity,
    vendor_hosted,
    environment,
    coalesce(observer, 'agent_runtime') AS observer,
    class,
    items[1:$evidence_max] AS items,
    acts,
    first_seen,
    last_seen,
    event_uids
FROM found
