-- An agent whose class works for people works for a "user" that bears the marks of a machine.
--
-- One row per principal and registered agent.  Marks: the registry's kind of the principal,
-- the kind that a log gives it, Entra's sub-function 13 (agent user), or a name of a service's
-- pattern.  A name that people.yaml lists is a person whatever it looks like.
WITH for_people AS (
    SELECT names.name, names.issuer, names.identity_id, period.vendor_hosted, period.valid_from, period.valid_to
    FROM reg_identities_as_of AS period
    INNER JOIN reg_names AS names ON period.identity_id = names.identity_id
    WHERE period.human_root_required
),
roots AS (
    SELECT
        held.tenant_id, held.credential_key AS root_key, chain.root_kind, held.issuer,
        coalesce(chain.root_principal, held.subject_id) AS principal,
        coalesce(chain.root_principal_issuer, held.subject_issuer) AS principal_issuer,
        held.subject_kind, held.environment, held.observer, held.event_uids, held.grant_type
    FROM chains AS chain
    INNER JOIN credentials AS held
        ON chain.tenant_id = held.tenant_id AND chain.credential_key = held.credential_key
    WHERE chain.root_key = chain.credential_key
        -- Taken for a person: by its login, or by the kind that somebody gave it.
        AND (
            chain.root_kind IN ('human_interactive', 'human_federated')
            OR held.subject_kind IN ('human', 'agent_user')
            OR held.grant_type = 'authorization_code'
        )
        AND coalesce(chain.root_principal, held.subject_id) IS NOT NULL
),
claims AS (
    SELECT DISTINCT roots.tenant_id, roots.root_key
    FROM roots
    CROSS JOIN unnest(roots.event_uids) AS made(event_uid)
    INNER JOIN token_events AS event
        ON roots.tenant_id = event.tenant_id AND made.event_uid = event.event_uid
    WHERE regexp_matches(coalesce(ext['xms_sub_fct'], ''), '(^|[^0-9])13([^0-9]|$)')
),
registered_kinds AS (
    SELECT roots.tenant_id, roots.root_key, min(identity.kind) AS kind
    FROM roots
    INNER JOIN reg_names AS names
        ON roots.principal = names.name
        AND (names.issuer IS NULL OR roots.principal_issuer IS NULL OR names.issuer = roots.principal_issuer)
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
    WHERE identity.kind <> 'human'
    GROUP BY roots.tenant_id, roots.root_key
),
marked AS (
    SELECT
        roots.*,
        CASE
            WHEN registered.kind IS NOT NULL THEN 'registered as ' || registered.kind
            WHEN claims.root_key IS NOT NULL THEN 'xms_sub_fct 13'
            WHEN roots.subject_kind IN ('agent_user', 'agent', 'service_account', 'workload')
                THEN 'logged as ' || roots.subject_kind
            ELSE 'named like a service'
        END AS mark,
        registered.kind IS NOT NULL OR claims.root_key IS NOT NULL
            OR coalesce(roots.subject_kind IN ('agent_user', 'agent', 'service_account', 'workload'), false) AS is_told
    FROM roots
    LEFT JOIN registered_kinds AS registered
        ON roots.tenant_id = registered.tenant_id AND roots.root_key = registered.root_key
    LEFT JOIN claims ON roots.tenant_id = claims.tenant_id AND roots.root_key = claims.root_key
    LEFT JOIN reg_people AS person ON roots.principal = person.principal
    WHERE person.principal IS NULL
        AND (
            registered.kind IS NOT NULL OR claims.root_key IS NOT NULL
            OR roots.subject_kind IN ('agent_user', 'agent', 'service_account', 'workload')
            OR regexp_matches(lower(roots.principal), $service_pattern)
        )
),
-- Agents that hold or use something below such a root.
held_below AS (
    SELECT
        marked.tenant_id, marked.root_key, below.credential_key, below.first_seen AS seen_at, below.issuer,
        coalesce(below.actor_id, below.client_id) AS agent_name, CAST(NULL AS VARCHAR) AS event_uid,
        CAST(NULL AS VARCHAR) AS tool_name, below.event_uids[1] AS made_uid
    FROM marked
    INNER JOIN credentials AS below
        ON marked.tenant_id = below.tenant_id AND marked.root_key = below.root_key
    WHERE coalesce(below.actor_id, below.client_id) IS NOT NULL
    UNION ALL
    SELECT
        marked.tenant_id, marked.root_key, call.credential_key, call.event_time AS seen_at, call.agent_issuer AS issuer,
        call.agent_id AS agent_name, call.event_uid, call.tool_name, CAST(NULL AS VARCHAR) AS made_uid
    FROM marked
    INNER JOIN calls AS call ON marked.tenant_id = call.tenant_id AND marked.root_key = call.root_key
    WHERE call.outcome <> 'denied' AND call.confidence >= $chain_confidence_min
),
working AS (
    SELECT
        held_below.*, for_people.identity_id, for_people.vendor_hosted,
        row_number() OVER (
            PARTITION BY held_below.tenant_id, held_below.root_key, for_people.identity_id
            ORDER BY held_below.seen_at, coalesce(held_below.event_uid, held_below.credential_key)
        ) AS place
    FROM held_below
    INNER JOIN for_people
        ON held_below.agent_name = for_people.name
        AND (for_people.issuer IS NULL OR held_below.issuer IS NULL OR for_people.issuer = held_below.issuer)
        AND held_below.seen_at >= for_people.valid_from AND held_below.seen_at < for_people.valid_to
)
SELECT
    marked.tenant_id,
    marked.principal,
    working.identity_id,
    working.identity_id AS entity,
    working.identity_id || ' works for ' || marked.principal || ', which is no person: ' || min(marked.mark) AS title,
    CASE WHEN bool_or(marked.is_told) THEN CAST(1 AS DOUBLE) ELSE $pattern_confidence END AS confidence,
    min(working.credential_key) FILTER (WHERE working.place = 1) AS credential_key,
    min(marked.environment) AS environment,
    min(marked.observer) AS observer,
    bool_or(working.vendor_hosted) AS vendor_hosted,
    list_sort(list_distinct(list(marked.mark))) AS marks,
    list_sort(list_distinct(list(marked.root_kind))) AS root_kinds,
    list_sort(list_distinct(list(marked.subject_kind) FILTER (WHERE marked.subject_kind IS NOT NULL))) AS subject_kinds,
    min(marked.principal_issuer) AS principal_issuer,
    count(working.event_uid) AS calls,
    count(DISTINCT marked.root_key) AS roots,
    min(working.seen_at) AS first_seen,
    max(working.seen_at) AS last_seen,
    list_sort(list_distinct(list_concat(
        flatten(list(marked.event_uids) FILTER (WHERE working.place <= $evidence_max)),
        list(coalesce(working.event_uid, working.made_uid)) FILTER (
            WHERE working.place <= $evidence_max AND coalesce(working.event_uid, working.made_uid) IS NOT NULL
        )
    ))) AS event_uids
FROM marked
INNER JOIN working ON marked.tenant_id = working.tenant_id AND marked.root_key = working.root_key
GROUP BY marked.tenant_id, marked.principal, working.identity_id
