-- An agent, actor or client acts that the registry does not know under any name.
--
-- One row per name.  Without one registered agent there is no inventory to be missing from.
-- An instance of a registered agent, a person, and a client that is ignored on purpose are
-- known; a cloud's audit log names every principal of an account, and says nothing of agents.
WITH registered AS (
    SELECT name, min(identity_id) AS identity_id
    FROM reg_names
    -- An agent with nobody in it is a registry without an inventory.
    WHERE EXISTS (SELECT 1 FROM reg_identities WHERE kind <> 'human')
    GROUP BY name
),
acts AS (
    SELECT
        tenant_id, event_uid, event_time, observer, environment, agent_id AS name, agent_issuer AS issuer,
        'agent' AS seen_as, tool_name AS did, action_class, resource_sensitivity,
        parent_agent_id AS parent,
        CASE WHEN agent_id = agent_instance THEN coalesce(actor_id, parent_agent_id) END AS instance_of,
        coalesce(ext['agent_blueprint'], ext['xms_par_app_azp']) AS blueprint,
        required_scopes AS scopes
    FROM tool_calls
    -- Most events are of few, registered names.
    WHERE agent_id NOT IN (SELECT name FROM registered)
        AND outcome <> 'denied' AND observer <> 'cloud_audit'
        AND NOT coalesce(subject_kind = 'human' AND subject_id = agent_id, false)
    UNION ALL
    SELECT
        tenant_id, event_uid, event_time, observer, environment, actor_id AS name, actor_issuer AS issuer,
        'actor' AS seen_as, 'token ' || op AS did, CAST(NULL AS VARCHAR) AS action_class,
        CAST(NULL AS INTEGER) AS resource_sensitivity, CAST(NULL AS VARCHAR) AS parent,
        CAST(NULL AS VARCHAR) AS instance_of,
        coalesce(ext['agent_blueprint'], ext['xms_par_app_azp']) AS blueprint, scopes
    FROM token_events
    WHERE outcome = 'success' AND op NOT IN ('revoke', 'deny', 'consent_revoke')
        AND actor_id NOT IN (SELECT name FROM registered) AND observer <> 'cloud_audit'
        AND NOT coalesce(subject_kind = 'human' AND subject_id = actor_id, false)
    UNION ALL
    SELECT
        tenant_id, event_uid, event_time, observer, environment, client_id AS name,
        credential_issuer AS issuer, 'client' AS seen_as, 'token ' || op AS did,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity,
        CAST(NULL AS VARCHAR) AS parent, CAST(NULL AS VARCHAR) AS instance_of,
        coalesce(ext['agent_blueprint'], ext['xms_par_app_azp']) AS blueprint, scopes
    FROM token_events
    WHERE outcome = 'success' AND op NOT IN ('revoke', 'deny', 'consent_revoke')
        AND client_id NOT IN (SELECT name FROM registered) AND client_id IS DISTINCT FROM actor_id
        AND observer <> 'cloud_audit'
    UNION ALL
    -- Actors before the current one, as an issuer wrote them into the token.
    SELECT
        event.tenant_id, event.event_uid, event.event_time, event.observer, event.environment,
        hop.subject AS name, hop.issuer, 'actor' AS seen_as, 'passed on a token' AS did,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity,
        CAST(NULL AS VARCHAR) AS parent, CAST(NULL AS VARCHAR) AS instance_of,
        CAST(NULL AS VARCHAR) AS blueprint, event.scopes
    FROM token_events AS event
    CROSS JOIN unnest(event.act_chain) AS item(hop)
    WHERE event.outcome = 'success' AND event.op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate')
        AND event.observer IN ('authz_server', 'idp')
        AND hop.subject IS NOT NULL AND hop.subject NOT IN (SELECT name FROM registered)
        AND hop.subject IS DISTINCT FROM event.actor_id AND hop.subject IS DISTINCT FROM event.client_id
        AND NOT coalesce(event.subject_kind = 'human' AND event.subject_id = hop.subject, false)
),
seen AS (
    SELECT tenant_id, name, issuer, instance_of, blueprint
    FROM acts
    GROUP BY tenant_id, name, issuer, instance_of, blueprint
),
strangers AS (
    SELECT seen.*
    FROM seen
    LEFT JOIN reg_people AS person ON lower(seen.name) = lower(person.principal)
    LEFT JOIN registered AS blueprint ON seen.blueprint = blueprint.name
    LEFT JOIN registered AS whole ON seen.instance_of = whole.name
    LEFT JOIN reg_ignored_clients AS ignored
        ON seen.name = ignored.subject
        AND (ignored.issuer IS NULL OR seen.issuer IS NULL OR ignored.issuer = seen.issuer)
    WHERE person.principal IS NULL AND blueprint.name IS NULL
        AND whole.name IS NULL AND ignored.subject IS NULL
        AND EXISTS (SELECT 1 FROM reg_identities WHERE kind <> 'human')
),
-- `planner/run-7`, `planner#7` and `planner@host` are instances of `planner`.
cuts AS (
    SELECT DISTINCT stranger.name, left(stranger.name, CAST(cut.length AS INTEGER)) AS whole
    FROM (SELECT DISTINCT name FROM strangers) AS stranger
    CROSS JOIN unnest(list_filter(
        generate_series(1, length(stranger.name) - 1),
        lambda i: list_contains(['/', '#', '@', ':', '~'], substr(stranger.name, CAST(i + 1 AS INTEGER), 1))
    )) AS cut(length)
),
instances AS (
    SELECT cuts.name FROM cuts INNER JOIN registered ON cuts.whole = registered.name
    UNION
    -- A name that ends in * stands for all that begin so.
    SELECT stranger.name
    FROM (SELECT DISTINCT name FROM strangers) AS stranger
    INNER JOIN (
        SELECT name FROM registered
        UNION
        SELECT subject AS name FROM reg_ignored_clients
    ) AS pattern
        ON ends_with(pattern.name, '*') AND length(pattern.name) > 1
        AND starts_with(stranger.name, left(pattern.name, length(pattern.name) - 1))
),
unknown AS (
    SELECT DISTINCT strangers.tenant_id, strangers.name, strangers.issuer, strangers.instance_of, strangers.blueprint
    FROM strangers
    LEFT JOIN instances ON strangers.name = instances.name
    WHERE instances.name IS NULL
),
placed AS (
    SELECT
        acts.*,
        row_number() OVER (PARTITION BY acts.tenant_id, acts.name ORDER BY acts.event_time, acts.event_uid, acts.seen_as)
            AS place
    FROM acts
    INNER JOIN unknown
        ON acts.tenant_id = unknown.tenant_id AND acts.name = unknown.name
        AND acts.issuer IS NOT DISTINCT FROM unknown.issuer
        AND acts.instance_of IS NOT DISTINCT FROM unknown.instance_of
        AND acts.blueprint IS NOT DISTINCT FROM unknown.blueprint
),
held AS (
    SELECT placed.tenant_id, placed.name, item.scope
    FROM placed
    CROSS JOIN unnest(placed.scopes) AS item(scope)
    UNION
    SELECT held.tenant_id, coalesce(held.actor_id, held.client_id) AS name, item.scope
    FROM credentials AS held
    INNER JOIN (SELECT DISTINCT tenant_id, name FROM unknown) AS bearer
        ON held.tenant_id = bearer.tenant_id AND coalesce(held.actor_id, held.client_id) = bearer.name
    CROSS JOIN unnest(held.scopes) AS item(scope)
),
rated AS (
    SELECT held.tenant_id, held.name, list_sort(list(DISTINCT held.scope)) AS scopes, max(catalogue.tier) AS tier
    FROM held
    LEFT JOIN reg_scope_tiers AS catalogue ON held.scope = catalogue.scope
    GROUP BY held.tenant_id, held.name
),
found AS (
    SELECT
        placed.tenant_id, placed.name,
        list_sort(list(DISTINCT placed.issuer) FILTER (WHERE placed.issuer IS NOT NULL)) AS issuers,
        list_sort(list(DISTINCT placed.seen_as)) AS seen_as,
        list_sort(list(DISTINCT placed.parent) FILTER (WHERE placed.parent IS NOT NULL)) AS parents,
        min(parent.identity_id) AS parent_identity,
        list_sort(list(DISTINCT placed.did) FILTER (WHERE placed.place <= $evidence_max)) AS did,
        count(DISTINCT placed.event_uid) AS events,
        max(placed.action_class) FILTER (
            WHERE placed.action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(placed.resource_sensitivity) AS resource_sensitivity,
        CASE WHEN count(DISTINCT coalesce(placed.environment, 'unknown')) = 1 THEN min(placed.environment) END
            AS environment,
        max(placed.observer) FILTER (WHERE placed.observer <> 'agent_runtime') AS observer,
        min(placed.event_time) AS first_seen, max(placed.event_time) AS last_seen,
        list_sort(list(DISTINCT placed.event_uid) FILTER (WHERE placed.place <= $evidence_max)) AS event_uids
    FROM placed
    LEFT JOIN registered AS parent ON placed.parent = parent.name
    GROUP BY placed.tenant_id, placed.name
)
SELECT
    found.tenant_id,
    found.name AS agent,
    found.name AS entity,
    'The registry knows no ' || array_to_string(found.seen_as, ' or ') || ' ' || found.name AS title,
    CASE WHEN rated.tier >= $high_tier THEN 4 ELSE 3 END AS severity,
    -- Either the tier or what it did raises the weight, not both.
    CASE WHEN coalesce(rated.tier, 0) < $high_tier THEN found.action_class END AS action_class,
    CASE WHEN coalesce(rated.tier, 0) < $high_tier THEN found.resource_sensitivity END AS resource_sensitivity,
    found.environment,
    coalesce(found.observer, 'agent_runtime') AS observer,
    -- Whoever made it is asked.
    found.parent_identity AS identity_id,
    found.issuers,
    found.seen_as,
    found.parents,
    found.did,
    rated.scopes,
    rated.tier,
    found.events,
    found.first_seen,
    found.last_seen,
    found.event_uids
FROM found
LEFT JOIN rated ON found.tenant_id = rated.tenant_id AND found.name = rated.name
WHERE epoch($as_of) - epoch(found.first_seen) >= $registry_lag_s
