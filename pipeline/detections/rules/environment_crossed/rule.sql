-- A credential was issued in one environment and used in another, or one secret value lives in
-- both: production against everything else.
--
-- One row per secret or fingerprint; tokens, of which there are many, by who used them.
-- An issuer that serves several environments from one place has no environment of its own.
WITH crossing AS (
    SELECT
        call.tenant_id, call.event_uid, call.event_time, call.observer, call.agent_id, call.agent_issuer,
        call.tool_name, call.action_class, call.resource_sensitivity, call.resource, call.credential_key,
        call.environment AS used_in, held.environment AS issued_in, held.is_static, held.issuer, held.id,
        held.event_uids AS held_events
    FROM calls AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE call.link_method IN ('T1', 'T2', 'T3') AND call.link_confidence >= $link_confidence_min
        AND call.outcome <> 'denied' AND held.seen_issued
        AND call.environment IN ('prod', 'stage', 'dev', 'test')
        AND held.environment IN ('prod', 'stage', 'dev', 'test')
        AND (call.environment = 'prod') <> (held.environment = 'prod')
),
-- A static key whose making nobody logged shows itself by its uses.
used_in_both AS (
    SELECT call.tenant_id, call.credential_key
    FROM calls AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE call.link_method IN ('T1', 'T2', 'T3') AND call.link_confidence >= $link_confidence_min
        AND call.outcome <> 'denied' AND held.is_static AND NOT held.seen_issued
        AND call.environment IN ('prod', 'stage', 'dev', 'test')
    GROUP BY call.tenant_id, call.credential_key
    HAVING bool_or(call.environment = 'prod') AND bool_or(call.environment <> 'prod')
),
-- Several agents cross with tokens of one issuer: that is how the issuer labels them.
shared_issuers AS (
    SELECT tenant_id, issuer, issued_in
    FROM crossing
    WHERE NOT is_static
    GROUP BY tenant_id, issuer, issued_in
    HAVING count(DISTINCT agent_id) >= $shared_issuer_agents
),
uses AS (
    SELECT
        crossing.tenant_id, CASE WHEN crossing.is_static THEN 'secret' ELSE 'token' END AS crossed_by,
        CASE WHEN crossing.is_static THEN crossing.credential_key ELSE crossing.agent_id END AS crossing_key,
        crossing.id AS shown, crossing.event_uid, crossing.event_time, crossing.observer, crossing.agent_id,
        crossing.agent_issuer, crossing.tool_name, crossing.action_class, crossing.resource_sensitivity,
        crossing.issued_in, crossing.used_in, crossing.held_events
    FROM crossing
    LEFT JOIN shared_issuers
        ON crossing.tenant_id = shared_issuers.tenant_id AND crossing.issuer = shared_issuers.issuer
        AND crossing.issued_in = shared_issuers.issued_in AND NOT crossing.is_static
    WHERE shared_issuers.issuer IS NULL
    UNION ALL
    SELECT
        call.tenant_id, 'secret' AS crossed_by, call.credential_key AS crossing_key, held.id AS shown,
        call.event_uid, call.event_time, call.observer, call.agent_id, call.agent_issuer, call.tool_name,
        call.action_class, call.resource_sensitivity, CAST(NULL AS VARCHAR) AS issued_in,
        call.environment AS used_in, CAST([] AS VARCHAR[]) AS held_events
    FROM calls AS call
    INNER JOIN used_in_both
        ON call.tenant_id = used_in_both.tenant_id AND call.credential_key = used_in_both.credential_key
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE call.outcome <> 'denied' AND call.environment IN ('prod', 'stage', 'dev', 'test')
    UNION ALL
    SELECT
        event.tenant_id, 'fingerprint' AS crossed_by, event.fingerprint AS crossing_key, event.secret_id AS shown,
        event.event_uid, event.event_time, event.observer,
        coalesce(event.accessed_by_id, event.bound_identity_id) AS agent_id,
        CASE WHEN event.accessed_by_id IS NULL THEN event.bound_identity_issuer ELSE event.accessed_by_issuer END
            AS agent_issuer,
        event.op AS tool_name, CAST(NULL AS VARCHAR) AS action_class,
        CAST(NULL AS INTEGER) AS resource_sensitivity,
        CAST(NULL AS VARCHAR) AS issued_in, event.environment AS used_in, CAST([] AS VARCHAR[]) AS held_events
    FROM secret_events AS event
    INNER JOIN (
        SELECT tenant_id, fingerprint
        FROM secret_events
        WHERE fingerprint IS NOT NULL AND op NOT IN ('revoke', 'delete', 'expire')
            AND environment IN ('prod', 'stage', 'dev', 'test')
        GROUP BY tenant_id, fingerprint
        HAVING bool_or(environment = 'prod') AND bool_or(environment <> 'prod')
    ) AS both_sides
        ON event.tenant_id = both_sides.tenant_id AND event.fingerprint = both_sides.fingerprint
    WHERE event.op NOT IN ('revoke', 'delete', 'expire')
        AND event.environment IN ('prod', 'stage', 'dev', 'test')
    UNION ALL
    -- A secret of the stores whose value nobody fingerprinted: made here, used there.
    SELECT
        event.tenant_id, 'stored secret' AS crossed_by, event.secret_id AS crossing_key, event.secret_id AS shown,
        event.event_uid, event.event_time, event.observer,
        coalesce(event.accessed_by_id, event.bound_identity_id) AS agent_id,
        CASE WHEN event.accessed_by_id IS NULL THEN event.bound_identity_issuer ELSE event.accessed_by_issuer END
            AS agent_issuer,
        event.op AS tool_name, CAST(NULL AS VARCHAR) AS action_class,
        CAST(NULL AS INTEGER) AS resource_sensitivity,
        made.environment AS issued_in, event.environment AS used_in, made.event_uids AS held_events
    FROM secret_events AS event
    INNER JOIN (
        SELECT tenant_id, secret_id, min(environment) AS environment,
            list_slice(list_sort(list(event_uid)), 1, $evidence_max) AS event_uids
        FROM secret_events
        WHERE op IN ('create', 'rotate') AND environment IN ('prod', 'stage', 'dev', 'test')
        GROUP BY tenant_id, secret_id
        -- One that was made on both sides has no side.
        HAVING bool_and(environment = 'prod') OR bool_and(environment <> 'prod')
    ) AS made
        ON event.tenant_id = made.tenant_id AND event.secret_id = made.secret_id
    WHERE event.op IN ('use', 'read') AND event.fingerprint IS NULL
        AND event.environment IN ('prod', 'stage', 'dev', 'test')
        AND (event.environment = 'prod') <> (made.environment = 'prod')
),
-- Cross-environment by design: the registry says so of the agent, its tool or the secret.
excepted AS (
    SELECT named.name, named.issuer, identity.identity_id, identity.valid_from, identity.valid_to,
        -- Its own environment alone is no leave to cross.
        CASE WHEN array_length(identity.environments) > 0 THEN list_concat(
            identity.environments,
            CASE WHEN identity.environment IS NULL THEN CAST([] AS VARCHAR[]) ELSE [identity.environment] END
        ) END AS environments,
        identity.approved_secrets, identity.ambient_tools
    FROM reg_names AS named
    INNER JOIN reg_identities_as_of AS identity ON named.identity_id = identity.identity_id
    WHERE array_length(identity.environments) > 0 OR array_length(identity.approved_secrets) > 0
        OR array_length(identity.ambient_tools) > 0
),
by_design AS (
    SELECT DISTINCT uses.tenant_id, uses.crossed_by, uses.crossing_key, uses.event_uid
    FROM uses
    INNER JOIN excepted
        ON uses.agent_id = excepted.name
        AND (excepted.issuer IS NULL OR uses.agent_issuer IS NULL OR excepted.issuer = uses.agent_issuer)
        AND uses.event_time >= excepted.valid_from AND uses.event_time < excepted.valid_to
    WHERE (
            coalesce(list_contains(excepted.environments, uses.used_in), false)
            AND (uses.issued_in IS NULL OR list_contains(excepted.environments, uses.issued_in))
        )
        OR coalesce(list_contains(excepted.approved_secrets, uses.shown), false)
        OR coalesce(list_contains(excepted.ambient_tools, uses.tool_name), false)
),
against AS (
    SELECT
        uses.*,
        row_number() OVER (
            PARTITION BY uses.tenant_id, uses.crossed_by, uses.crossing_key ORDER BY uses.event_time, uses.event_uid
        ) AS place
    FROM uses
    LEFT JOIN by_design
        ON uses.tenant_id = by_design.tenant_id AND uses.event_uid = by_design.event_uid
        AND uses.crossed_by = by_design.crossed_by AND uses.crossing_key = by_design.crossing_key
    WHERE by_design.event_uid IS NULL
),
found AS (
    SELECT
        tenant_id, crossed_by, crossing_key, min(shown) AS shown, min(agent_id) AS agent_id,
        list_sort(list(DISTINCT agent_id) FILTER (WHERE agent_id IS NOT NULL)) AS agents,
        list_sort(list_distinct(list_concat(
            list(issued_in) FILTER (WHERE issued_in IS NOT NULL), list(used_in)
        ))) AS environments,
        list_sort(list(DISTINCT issued_in) FILTER (WHERE issued_in IS NOT NULL)) AS issued_in,
        list_sort(list(DISTINCT used_in)) AS used_in,
        list_sort(list(DISTINCT tool_name) FILTER (WHERE place <= $evidence_max)) AS tools,
        count(DISTINCT event_uid) AS uses,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list_distinct(list_concat(
            list(event_uid) FILTER (WHERE place <= $evidence_max),
            flatten(list(held_events) FILTER (WHERE place <= $evidence_max))
        ))) AS event_uids
    FROM against
    GROUP BY tenant_id, crossed_by, crossing_key
    -- What remains after the exceptions must still lie on both sides.
    HAVING count(issued_in) > 0 OR (bool_or(used_in = 'prod') AND bool_or(used_in <> 'prod'))
)
SELECT
    tenant_id,
    crossed_by,
    crossing_key,
    CASE WHEN crossed_by = 'token' THEN agent_id ELSE shown END AS entity,
    CASE crossed_by
        WHEN 'token' THEN agent_id || ' used a token of ' || array_to_string(issued_in, ', ') || ' in '
            || array_to_string(used_in, ', ')
        WHEN 'stored secret' THEN 'The secret ' || shown || ' of ' || array_to_string(issued_in, ', ') || ' is used in '
            || array_to_string(used_in, ', ')
        WHEN 'secret' THEN 'The secret ' || shown || ' works in ' || array_to_string(environments, ' and ')
        ELSE 'One secret value is used in ' || array_to_string(environments, ' and ')
    END AS title,
    CASE WHEN crossed_by = 'secret' THEN crossing_key END AS credential_key,
    agent_id AS identity_id,
    action_class,
    resource_sensitivity,
    coalesce(observer, 'agent_runtime') AS observer,
    agents,
    issued_in,
    used_in,
    tools,
    uses,
    first_seen,
    last_seen,
    event_uids
FROM found
