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
tenants AS (
    SELECT DISTINCT tenant_id FROM identity_activity
),
active AS (
    SELECT
        tenant_id, identity_id, min(first_at) AS first_at, max(last_at) AS last_at,
        list_sort(list_distinct(flatten(list(event_uids)))) AS event_uids
    FROM identity_activity
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
    coalesce(active.event_uids, CAST([] AS VARCHAR[])) AS event_uids
FROM unowned
CROSS JOIN tenants
LEFT JOIN active
    ON tenants.tenant_id = active.tenant_id AND unowned.identity_id = active.identity_id
LEFT JOIN live ON tenants.tenant_id = live.tenant_id AND unowned.identity_id = live.identity_id
LEFT JOIN rated ON tenants.tenant_id = rated.tenant_id AND unowned.identity_id = rated.identity_id
