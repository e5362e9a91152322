-- A person uses the credential of an agent, or an agent that of a person.
--
-- One row per holder and user.  A person shows by name, or by the program that only people use;
-- an agent that browses for a living shows browsers all the time.  A registered emergency
-- (break_glass) is left out.
WITH machines AS (
    SELECT named.name, min(named.identity_id) AS identity_id, bool_and(identity.kind = 'service_account') AS is_account
    FROM reg_names AS named
    INNER JOIN reg_identities AS identity ON named.identity_id = identity.identity_id
    WHERE identity.kind NOT IN ('human', 'agent_user')
    GROUP BY named.name
),
people AS (
    SELECT lower(principal) AS name FROM reg_people
    UNION
    SELECT lower(named.name) AS name
    FROM reg_names AS named
    INNER JOIN reg_identities AS identity ON named.identity_id = identity.identity_id
    WHERE identity.kind = 'human'
),
-- Only credentials that are one side's own: a token for a person in an agent's hands is delegation.
own AS (
    SELECT
        held.tenant_id, held.credential_key, held.issuer, held.kind, held.id, held.scopes, held.event_uids,
        machine.identity_id AS machine_id,
        CASE WHEN machine.identity_id IS NULL THEN person.name END AS person_id
    FROM credentials AS held
    LEFT JOIN reg_credential_ids AS registered
        ON held.kind = registered.kind AND held.id = registered.id
        AND (registered.issuer IS NULL OR held.issuer IS NULL OR registered.issuer = held.issuer)
    LEFT JOIN machines AS machine
        ON coalesce(registered.identity_id, held.actor_id, held.client_id, held.subject_id) = machine.name
    LEFT JOIN people AS person ON lower(held.subject_id) = person.name
    WHERE
        -- The machine's: nobody stands behind it.
        (machine.identity_id IS NOT NULL
            -- Who used a registered key says nothing of whose it is.
            AND (registered.identity_id IS NOT NULL OR coalesce(held.subject_kind, 'client') <> 'human'))
        -- The person's: a key of theirs, which nobody delegated.
        OR (
            machine.identity_id IS NULL AND held.is_static
            AND (person.name IS NOT NULL OR held.subject_kind = 'human')
            AND held.actor_id IS NOT DISTINCT FROM coalesce(held.client_id, held.actor_id)
            AND (held.actor_id IS NULL OR held.actor_id = held.subject_id)
        )
),
presented AS (
    SELECT
        call.tenant_id, call.credential_key, call.event_uid, call.event_time, call.observer, call.environment,
        call.agent_id, call.tool_name, call.action_class, call.resource_sensitivity, call.user_agent, call.src_ip,
        call.subject_id, call.subject_kind, own.machine_id, own.person_id, own.id AS held_id, own.scopes,
        own.event_uids AS held_events,
        regexp_matches(lower(coalesce(call.user_agent, '')), $person_programs)
            AND NOT regexp_matches(lower(call.user_agent), $machine_programs) AS by_program
    FROM calls AS call
    INNER JOIN own ON call.tenant_id = own.tenant_id AND call.credential_key = own.credential_key
    WHERE call.outcome <> 'denied' AND call.link_method IN ('T1', 'T2', 'T3')
        AND call.link_confidence >= $link_confidence_min
),
-- A key under which several people are named carries who asked; it is none of theirs.
carriers AS (
    SELECT tenant_id, credential_key
    FROM presented
    WHERE machine_id IS NULL AND subject_id IS NOT NULL
    GROUP BY tenant_id, credential_key
    HAVING count(DISTINCT subject_id) > 1
),
browsing AS (
    SELECT tenant_id, machine_id
    FROM presented
    WHERE machine_id IS NOT NULL
    GROUP BY tenant_id, machine_id
    HAVING count(*) FILTER (WHERE by_program) >= $habit_calls
        AND 2 * count(*) FILTER (WHERE by_program) >= count(*)
),
against AS (
    SELECT
        presented.tenant_id, 'person uses agent''s' AS direction, presented.machine_id AS holder,
        -- Whoever sits at the program is not named.
        CASE WHEN person.name IS NOT NULL THEN presented.agent_id ELSE '(a person)' END AS used_by,
        presented.machine_id AS identity_id, presented.event_uid, presented.event_time, presented.observer,
        presented.environment, presented.tool_name, presented.action_class, presented.resource_sensitivity,
        presented.user_agent, presented.src_ip, presented.held_id, presented.scopes, presented.held_events,
        CASE WHEN person.name IS NOT NULL THEN 1.0 ELSE $program_confidence END AS confidence
    FROM presented
    LEFT JOIN people AS person ON lower(presented.agent_id) = person.name
    LEFT JOIN browsing
        ON presented.tenant_id = browsing.tenant_id AND presented.machine_id = browsing.machine_id
    WHERE presented.machine_id IS NOT NULL
        AND (person.name IS NOT NULL OR (presented.by_program AND browsing.machine_id IS NULL))
    UNION ALL
    SELECT
        presented.tenant_id, 'agent uses person''s' AS direction,
        coalesce(presented.person_id, presented.subject_id, presented.held_id) AS holder,
        machine.identity_id AS used_by, machine.identity_id, presented.event_uid, presented.event_time,
        presented.observer, presented.environment, presented.tool_name, presented.action_class,
        presented.resource_sensitivity, presented.user_agent, presented.src_ip, presented.held_id,
        presented.scopes, presented.held_events, 1.0 AS confidence
    FROM presented
    INNER JOIN machines AS machine ON presented.agent_id = machine.name
    LEFT JOIN carriers
        ON presented.tenant_id = carriers.tenant_id AND presented.credential_key = carriers.credential_key
    WHERE presented.machine_id IS NULL AND carriers.credential_key IS NULL
        -- A service account with a key that only its calls show: the key is its own.
        AND NOT (machine.is_account AND array_length(presented.held_events) = 0)
    UNION ALL
    SELECT
        event.tenant_id,
        CASE WHEN machine_holder.identity_id IS NOT NULL THEN 'person uses agent''s' ELSE 'agent uses person''s' END
            AS direction,
        coalesce(machine_holder.identity_id, event.bound_identity_id) AS holder,
        coalesce(machine_user.identity_id, event.accessed_by_id) AS used_by,
        coalesce(machine_holder.identity_id, machine_user.identity_id) AS identity_id,
        event.event_uid, event.event_time, event.observer, event.environment, 'secret use' AS tool_name,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity,
        CAST(NULL AS VARCHAR) AS user_agent, CAST(NULL AS VARCHAR) AS src_ip, event.secret_id AS held_id,
        event.scopes, CAST([] AS VARCHAR[]) AS held_events, 1.0 AS confidence
    FROM secret_events AS event
    LEFT JOIN machines AS machine_holder ON event.bound_identity_id = machine_holder.name
    LEFT JOIN machines AS machine_user ON event.accessed_by_id = machine_user.name
    LEFT JOIN people AS person_holder ON lower(event.bound_identity_id) = person_holder.name
    LEFT JOIN people AS person_user ON lower(event.accessed_by_id) = person_user.name
    WHERE event.op = 'use'
        AND (
            (machine_holder.name IS NOT NULL AND person_user.name IS NOT NULL AND machine_user.name IS NULL)
            OR (person_holder.name IS NOT NULL AND machine_holder.name IS NULL AND machine_user.name IS NOT NULL)
        )
),
rated AS (
    SELECT against.tenant_id, against.event_uid, max(catalogue.tier) AS tier
    FROM against
    CROSS JOIN unnest(against.scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue ON item.scope = catalogue.scope
    GROUP BY against.tenant_id, against.event_uid
),
placed AS (
    SELECT
        against.*, rated.tier,
        row_number() OVER (
            PARTITION BY against.tenant_id, against.direction, against.holder, against.used_by
            ORDER BY against.event_time, against.event_uid
        ) AS place
    FROM against
    LEFT JOIN rated ON against.tenant_id = rated.tenant_id AND against.event_uid = rated.event_uid
    LEFT JOIN reg_break_glass AS emergency
        ON against.identity_id = emergency.identity_id
        AND against.event_time >= emergency.since AND against.event_time < emergency.until
    WHERE emergency.identity_id IS NULL
),
found AS (
    SELECT
        tenant_id, direction, holder, used_by, min(identity_id) AS identity_id, count(*) AS uses,
        max(confidence) AS confidence, max(tier) AS tier,
        list_sort(list(DISTINCT held_id)) AS credentials_used,
        list_sort(list(DISTINCT user_agent) FILTER (WHERE user_agent IS NOT NULL AND place <= $evidence_max)) AS programs,
        list_sort(list(DISTINCT src_ip) FILTER (WHERE src_ip IS NOT NULL AND place <= $evidence_max)) AS addresses,
        list_sort(list(DISTINCT tool_name) FILTER (WHERE place <= $evidence_max)) AS tools,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        CASE WHEN count(DISTINCT coalesce(environment, 'unknown')) = 1 THEN min(environment) END AS environment,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list_distinct(list_concat(
            list(event_uid) FILTER (WHERE place <= $evidence_max),
            flatten(list(held_events) FILTER (WHERE place <= $evidence_max))
        ))) AS event_uids
    FROM placed
    GROUP BY tenant_id, direction, holder, used_by
)
SELECT
    tenant_id,
    direction,
    holder,
    used_by,
    CASE WHEN direction = 'agent uses person''s' THEN used_by ELSE holder END AS entity,
    CASE WHEN direction = 'agent uses person''s'
        THEN used_by || ' uses a credential of the person ' || holder
        ELSE CASE WHEN used_by = '(a person)' THEN 'Somebody at a program for people' ELSE used_by END
            || ' uses a credential of the agent ' || holder
    END AS title,
    CASE WHEN tier >= $high_tier THEN 4 ELSE 3 END AS severity,
    confidence,
    identity_id,
    action_class,
    resource_sensitivity,
    environment,
    coalesce(observer, 'agent_runtime') AS observer,
    credentials_used,
    programs,
    addresses,
    tools,
    tier,
    uses,
    first_seen,
    last_seen,
    event_uids
FROM found
