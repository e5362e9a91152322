-- An active identity has nobody to answer for it in one of its three roles.
--
-- One row per tenant and identity: the registry holds for every tenant in which an identity
-- of it was seen.  An owner who has left is another rule's matter.  Where the registry names
-- no people at all, a named owner cannot be resolved and counts as one.
WITH answerable AS (
    SELECT lower(principal) AS owner FROM reg_people
    UNION
    SELECT lower(member.group_name) AS owner
    FROM reg_group_members AS member
    INNER JOIN reg_people AS person ON lower(member.member) = lower(person.principal)
    UNION
    SELECT lower(human_name.name) AS owner
    FROM reg_names AS human_name
    INNER JOIN reg_identities AS human ON human_name.identity_id = human.identity_id
    WHERE human.kind = 'human'
),
machines AS (
    SELECT DISTINCT lower(identity_id) AS owner FROM reg_identities WHERE kind <> 'human'
),
lacking AS (
    SELECT
        owned.identity_id,
        list_sort(list(owned.role)) AS missing_roles,
        list_sort(list(owned.owner) FILTER (WHERE owned.owner IS NOT NULL)) AS unknown_owners
    FROM reg_owners AS owned
    LEFT JOIN answerable ON lower(owned.owner) = answerable.owner
    LEFT JOIN machines ON lower(owned.owner) = machines.owner
    WHERE answerable.owner IS NULL
        -- A machine is nobody's answer.
        AND (owned.owner IS NULL OR owned.is_accountable = false OR machines.owner IS NOT NULL)
    GROUP BY owned.identity_id
),
unowned AS (
    SELECT identity.*, lacking.missing_roles, lacking.unknown_owners
    FROM reg_identities AS identity
    INNER JOIN lacking ON identity.identity_id = lacking.identity_id
    WHERE identity.status = 'active' AND identity.kind <> 'human'
        AND NOT coalesce(
            epoch($as_of) - epoch(coalesce(identity.registered_at, identity.status_since))
                BETWEEN 0 AND $onboarding_d * 86400,
            false
        )
),
seen AS (
    SELECT tenant_id, agent_id AS name, agent_issuer AS issuer, min(event_time) AS first_at, max(event_time) AS last_at
    FROM tool_calls
    GROUP BY tenant_id, agent_id, agent_issuer
    UNION ALL
    SELECT tenant_id, actor_id AS name, actor_issuer AS issuer, min(event_time) AS first_at, max(event_time) AS last_at
    FROM token_events
    WHERE actor_id IS NOT NULL
    GROUP BY tenant_id, actor_id, actor_issuer
    UNION ALL
    SELECT tenant_id, client_id AS name, credential_issuer AS issuer, min(event_time) AS first_at,
        max(event_time) AS last_at
    FROM token_events
    WHERE client_id IS NOT NULL
    GROUP BY tenant_id, client_id, credential_issuer
),
-- A name that fits two identities, neither by its issuer, is nobody's.
known AS (
    SELECT
        seen.tenant_id, seen.name, seen.issuer, min(seen.first_at) AS first_at, max(seen.last_at) AS last_at,
        coalesce(min(named.identity_id) FILTER (WHERE named.issuer = seen.issuer), min(named.identity_id))
            AS identity_id
    FROM seen
    INNER JOIN reg_names AS named
        ON seen.name = named.name
        AND (named.issuer IS NULL OR seen.issuer IS NULL OR named.issuer = seen.issuer)
    GROUP BY seen.tenant_id, seen.name, seen.issuer
    HAVING coalesce(
        nullif(count(DISTINCT named.identity_id) FILTER (WHERE named.issuer = seen.issuer), 0),
        count(DISTINCT named.identity_id)
    ) = 1
),
tenants AS (
    SELECT DISTINCT tenant_id FROM known
),
active AS (
    SELECT tenant_id, identity_id, min(first_at) AS first_at, max(last_at) AS last_at
    FROM known
    GROUP BY tenant_id, identity_id
),
-- Only the few that are concerned are looked at event by event.
wanted AS (
    SELECT DISTINCT known.name
    FROM known
    INNER JOIN unowned ON known.identity_id = unowned.identity_id
),
acts AS (
    SELECT tenant_id, agent_id AS name, agent_issuer AS issuer, event_time, event_uid
    FROM tool_calls
    WHERE agent_id IN (SELECT name FROM wanted)
    UNION ALL
    SELECT tenant_id, actor_id AS name, actor_issuer AS issuer, event_time, event_uid
    FROM token_events
    WHERE actor_id IN (SELECT name FROM wanted)
    UNION ALL
    SELECT tenant_id, client_id AS name, credential_issuer AS issuer, event_time, event_uid
    FROM token_events
    WHERE client_id IN (SELECT name FROM wanted)
),
placed AS (
    SELECT
        known.tenant_id, known.identity_id, acts.event_uid,
        row_number() OVER (
            PARTITION BY known.tenant_id, known.identity_id ORDER BY acts.event_time DESC, acts.event_uid
        ) AS place
    FROM acts
    INNER JOIN known
        ON acts.tenant_id = known.tenant_id AND acts.name = known.name
        AND acts.issuer IS NOT DISTINCT FROM known.issuer
    INNER JOIN unowned ON known.identity_id = unowned.identity_id
),
evidence AS (
    SELECT tenant_id, identity_id, list_sort(list_distinct(list(event_uid))) AS event_uids
    FROM placed
    WHERE place <= $evidence_max
    GROUP BY tenant_id, identity_id
),
held AS (
    SELECT
        held.tenant_id, named.identity_id, held.credential_key, held.issuer, held.scopes,
        held.revoked_at IS NULL AND held.seen_issued
            AND (held.expires_at > $as_of OR held.never_expires OR held.is_static) AS is_live
    FROM credentials AS held
    INNER JOIN reg_names AS named
        ON coalesce(held.actor_id, held.client_id, held.subject_id) = named.name
        AND (
            named.issuer IS NULL OR coalesce(held.actor_issuer, held.issuer) IS NULL
            OR named.issuer = coalesce(held.actor_issuer, held.issuer)
        )
    INNER JOIN unowned ON named.identity_id = unowned.identity_id
),
live AS (
    SELECT tenant_id, identity_id, count(DISTINCT credential_key) FILTER (WHERE is_live) AS live_credentials
    FROM held
    GROUP BY tenant_id, identity_id
),
rated AS (
    SELECT held.tenant_id, held.identity_id, max(catalogue.tier) AS tier
    FROM held
    CROSS JOIN unnest(held.scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue
        ON item.scope = catalogue.scope
        AND (catalogue.issuer IS NULL OR held.issuer IS NULL OR catalogue.issuer = held.issuer)
    GROUP BY held.tenant_id, held.identity_id
)
SELECT
    tenants.tenant_id,
    unowned.identity_id,
    unowned.identity_id AS entity,
    unowned.identity_id || ' has no accountable owner for ' || array_to_string(unowned.missing_roles, ', ')
        AS title,
    CASE
        WHEN rated.tier >= $high_tier THEN 4
        WHEN epoch($as_of) - epoch(active.last_at) <= $active_d * 86400 THEN 3
        ELSE 2
    END AS severity,
    unowned.environment,
    unowned.vendor_hosted,
    unowned.class,
    unowned.missing_roles,
    unowned.unknown_owners,
    unowned.backup_owner,
    active.last_at AS last_activity_at,
    coalesce(live.live_credentials, 0) AS live_credentials,
    rated.tier,
    -- What was never seen dates from its registration.
    coalesce(active.first_at, unowned.registered_at, unowned.status_since, date_trunc('day', $as_of))
        AS first_seen,
    coalesce(active.last_at, unowned.registered_at, unowned.status_since, date_trunc('day', $as_of))
        AS last_seen,
    coalesce(evidence.event_uids, CAST([] AS VARCHAR[])) AS event_uids
FROM unowned
CROSS JOIN tenants
LEFT JOIN active
    ON tenants.tenant_id = active.tenant_id AND unowned.identity_id = active.identity_id
LEFT JOIN evidence
    ON tenants.tenant_id = evidence.tenant_id AND unowned.identity_id = evidence.identity_id
LEFT JOIN live ON tenants.tenant_id = live.tenant_id AND unowned.identity_id = live.identity_id
LEFT JOIN rated ON tenants.tenant_id = rated.tenant_id AND unowned.identity_id = rated.identity_id
