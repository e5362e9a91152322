-- An actor comes back later in its own chain, or the chain of credentials closes on itself.
--
-- One row per actor and those between its two places, and one per ring.  Names of one identity
-- are one actor; gateways are none; a pair that is registered to call back is left out.
WITH paths AS (
    SELECT
        tenant_id, actor_path,
        min(root_key) AS root_key, count(*) AS credentials
    FROM chains
    WHERE array_length(actor_path) > 2 AND status <> 'cyclic'
    GROUP BY tenant_id, actor_path
    -- Only a path that repeats a name as it stands, or by an alias, can matter.
    HAVING array_length(list_distinct(actor_path)) < array_length(actor_path)
        OR (SELECT count(*) FROM reg_aliases) > 0
),
steps AS (
    SELECT tenant_id, actor_path, unnest(actor_path) AS name, unnest(range(1, array_length(actor_path) + 1)) AS place
    FROM paths
),
-- A name that two identities bear is left as it stands.
identities AS (
    SELECT named.name, min(named.identity_id) AS identity_id, bool_or(identity.pass_through) AS pass_through
    FROM reg_names AS named
    INNER JOIN reg_identities AS identity ON named.identity_id = identity.identity_id
    GROUP BY named.name
    HAVING count(DISTINCT named.identity_id) = 1
),
known AS (
    SELECT
        steps.tenant_id, steps.actor_path, steps.place,
        coalesce(identities.identity_id, steps.name) AS actor
    FROM steps
    LEFT JOIN identities ON steps.name = identities.name
    WHERE NOT coalesce(identities.pass_through, false)
),
changes AS (
    SELECT
        *,
        lag(actor) OVER (PARTITION BY tenant_id, actor_path ORDER BY place) AS before
    FROM known
),
turns AS (
    SELECT
        tenant_id, actor_path, actor,
        row_number() OVER (PARTITION BY tenant_id, actor_path ORDER BY place) AS turn
    FROM changes
    WHERE before IS NULL OR before <> actor
),
returns AS (
    SELECT
        *,
        lag(turn) OVER (PARTITION BY tenant_id, actor_path, actor ORDER BY turn) AS earlier
    FROM turns
),
loops AS (
    SELECT
        back.tenant_id, back.actor_path, back.actor, back.earlier, back.turn,
        list_sort(list_distinct(list(mid.actor))) AS via
    FROM returns AS back
    INNER JOIN turns AS mid
        ON back.tenant_id = mid.tenant_id AND back.actor_path = mid.actor_path
        AND mid.turn > back.earlier AND mid.turn < back.turn
    WHERE back.earlier IS NOT NULL
    GROUP BY back.tenant_id, back.actor_path, back.actor, back.earlier, back.turn
),
reentries AS (
    SELECT
        loops.tenant_id, loops.actor, loops.via, chain.credential_key, chain.confidence,
        chain.root_principal, chain.actor_path, held.environment, held.observer, held.event_uids,
        coalesce(above.actor_path, CAST([] AS VARCHAR[])) AS parent_path,
        coalesce(held.issued_at, held.first_seen) AS seen_at, parent.event_uids AS parent_events,
        list_transform(
            list_filter(held.act_chain, lambda one: one.subject = loops.actor), lambda one: one.issuer
        ) AS namesake_issuers
    FROM loops
    INNER JOIN chains AS chain
        ON loops.tenant_id = chain.tenant_id AND loops.actor_path = chain.actor_path
    INNER JOIN credentials AS held
        ON chain.tenant_id = held.tenant_id AND chain.credential_key = held.credential_key
    LEFT JOIN chains AS above
        ON held.tenant_id = above.tenant_id AND held.parent_key = above.credential_key
    LEFT JOIN credentials AS parent
        ON held.tenant_id = parent.tenant_id AND held.parent_key = parent.credential_key
),
-- What a credential merely inherits is its ancestor's finding.
own_reentries AS (
    SELECT mine.*
    FROM reentries AS mine
    LEFT JOIN loops AS inherited
        ON mine.tenant_id = inherited.tenant_id AND mine.parent_path = inherited.actor_path
        AND mine.actor = inherited.actor AND mine.via = inherited.via
    WHERE inherited.actor IS NULL
),
-- Whom the registry knows at any issuer, or at several.
known_elsewhere AS (
    SELECT identity_id
    FROM reg_aliases
    GROUP BY identity_id
    HAVING count(DISTINCT issuer) > 1 OR count(*) > count(issuer)
),
allowed AS (
    SELECT own.tenant_id, own.credential_key, own.actor, own.via
    FROM (
        SELECT tenant_id, credential_key, actor, via, seen_at, unnest(via) AS mid FROM own_reentries
    ) AS own
    INNER JOIN reg_identities_as_of AS identity
        ON (
            (own.actor = identity.identity_id AND list_contains(identity.reentry_allowed_with, own.mid))
            OR (own.mid = identity.identity_id AND list_contains(identity.reentry_allowed_with, own.actor))
        )
        AND own.seen_at >= identity.valid_from AND own.seen_at < identity.valid_to
    GROUP BY own.tenant_id, own.credential_key, own.actor, own.via
    HAVING count(DISTINCT own.mid) = array_length(own.via)
),
judged AS (
    SELECT
        own.*,
        row_number() OVER (PARTITION BY own.tenant_id, own.actor, own.via ORDER BY own.seen_at, own.credential_key) AS rank
    FROM own_reentries AS own
    LEFT JOIN allowed
        ON own.tenant_id = allowed.tenant_id AND own.credential_key = allowed.credential_key
        AND own.actor = allowed.actor AND own.via = allowed.via
    LEFT JOIN known_elsewhere AS known ON own.actor = known.identity_id
    WHERE allowed.actor IS NULL
        -- One name at two issuers is two actors, each of them here once.
        AND (
            known.identity_id IS NOT NULL OR array_length(own.namesake_issuers) < 2
            OR array_length(list_distinct(own.namesake_issuers)) < array_length(own.namesake_issuers)
        )
),
cut AS (
    SELECT tenant_id, child_key, min(parent_key) AS parent_key
    FROM hop_candidates
    WHERE reason = 'cut_cycle'
    GROUP BY tenant_id, child_key
),
rings AS (
    SELECT
        top.tenant_id, top.credential_key AS ring_key,
        unnest(coalesce(below.credential_path, [top.credential_key])) AS member
    FROM chains AS top
    LEFT JOIN cut ON top.tenant_id = cut.tenant_id AND top.credential_key = cut.child_key
    LEFT JOIN chains AS below ON cut.tenant_id = below.tenant_id AND cut.parent_key = below.credential_key
    WHERE top.status = 'cyclic' AND top.credential_key = top.root_key
),
ring_found AS (
    SELECT
        rings.tenant_id, rings.ring_key,
        list_sort(list_distinct(list(coalesce(held.kind, '') || ' ' || held.id))) AS members,
        list_sort(list_distinct(list(coalesce(held.actor_id, held.client_id))
            FILTER (WHERE coalesce(held.actor_id, held.client_id) IS NOT NULL))) AS actors,
        min(held.environment) AS environment,
        coalesce(max(held.observer) FILTER (WHERE held.observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        min(coalesce(held.issued_at, held.first_seen)) AS first_seen, max(held.last_seen) AS last_seen,
        list_sort(list_distinct(flatten(list(held.event_uids)))) AS event_uids
    FROM rings
    INNER JOIN credentials AS held
        ON rings.tenant_id = held.tenant_id AND rings.member = held.credential_key
    GROUP BY rings.tenant_id, rings.ring_key
)
SELECT
    tenant_id,
    'actor' AS variant,
    actor AS returning,
    via,
    actor AS entity,
    actor || ' comes back in its own chain after ' || array_to_string(via, ', ') AS title,
    2 AS severity,
    max(confidence) AS confidence,
    max(confidence) AS chain_confidence,
    min(credential_key) FILTER (WHERE rank = 1) AS credential_key,
    CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
        AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    count(*) AS times,
    list_sort(list_distinct(list(root_principal) FILTER (WHERE root_principal IS NOT NULL AND rank <= $evidence_max)))
        AS principals,
    CAST([] AS VARCHAR[]) AS members,
    min(seen_at) AS first_seen,
    max(seen_at) AS last_seen,
    list_sort(list_distinct(flatten(list(
        list_concat(event_uids, coalesce(parent_events, CAST([] AS VARCHAR[])))
    ) FILTER (WHERE rank <= $evidence_max)))) AS event_uids
FROM judged
GROUP BY tenant_id, actor, via
UNION ALL
SELECT
    tenant_id,
    'cycle' AS variant,
    ring_key AS returning,
    CAST([] AS VARCHAR[]) AS via,
    coalesce(list_extract(actors, 1), list_extract(members, 1)) AS entity,
    'Credentials were derived from each other in a ring: ' || array_to_string(members, ', ') AS title,
    4 AS severity,
    1.0 AS confidence,
    CAST(NULL AS DOUBLE) AS chain_confidence,
    ring_key AS credential_key,
    environment,
    observer,
    1 AS times,
    actors AS principals,
    members,
    first_seen,
    last_seen,
    list_slice(event_uids, 1, 2 * $evidence_max) AS event_uids
FROM ring_found
