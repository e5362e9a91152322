-- The person who answers for an active identity has left, or is away with nobody in their place.
--
-- One row per tenant and identity: the registry holds for every tenant in which an identity
-- of it was seen.  A group is gone when all its known members are.  An owner whom the registry
-- does not know is another rule's matter.
WITH away AS (
    SELECT lower(principal) AS owner, status, left_at, status = 'left' AS has_left
    FROM reg_people
    WHERE status <> 'active'
        -- A departure without a date is one that the registry states; since when, nobody knows.
        AND coalesce(epoch($as_of) - epoch(left_at) > $grace_d * 86400, true)
),
present AS (
    SELECT lower(person.principal) AS owner
    FROM reg_people AS person
    LEFT JOIN away ON lower(person.principal) = away.owner
    WHERE away.owner IS NULL
),
groups AS (
    SELECT
        lower(member.group_name) AS owner,
        bool_or(present.owner IS NOT NULL) AS is_present,
        bool_or(coalesce(away.has_left, false)) AS has_left,
        max(away.left_at) AS left_at
    FROM reg_group_members AS member
    LEFT JOIN present ON lower(member.member) = present.owner
    LEFT JOIN away ON lower(member.member) = away.owner
    GROUP BY lower(member.group_name)
    HAVING count(present.owner) + count(away.owner) > 0
),
gone AS (
    SELECT owner, has_left, left_at FROM away
    UNION ALL
    SELECT owner, has_left, left_at FROM groups WHERE NOT is_present
),
backed AS (
    SELECT owner FROM present
    UNION
    SELECT owner FROM groups WHERE is_present
),
lacking AS (
    SELECT
        owned.identity_id,
        bool_or(gone.has_left) AS has_left,
        max(gone.left_at) AS left_at,
        bool_or(backed.owner IS NOT NULL) AS has_backup,
        list_sort(list(owned.role)) AS roles,
        list_sort(list(DISTINCT owned.owner)) AS owners_gone
    FROM reg_owners AS owned
    INNER JOIN gone ON lower(owned.owner) = gone.owner
    LEFT JOIN backed ON lower(owned.backup_owner) = backed.owner
    GROUP BY owned.identity_id
    -- Leave with somebody in one's place is no gap.
    HAVING bool_or(gone.has_left OR backed.owner IS NULL)
),
orphaned AS (
    SELECT identity.*, lacking.has_left, lacking.left_at, lacking.has_backup, lacking.roles, lacking.owners_gone
    FROM reg_identities AS identity
    INNER JOIN lacking ON identity.identity_id = lacking.identity_id
    WHERE identity.status = 'active' AND identity.kind <> 'human'
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
    INNER JOIN orphaned ON named.identity_id = orphaned.identity_id
),
live AS (
    SELECT tenant_id, identity_id, count(DISTINCT credential_key) FILTER (WHERE is_live) AS live_credentials
    FROM held
    GROUP BY tenant_id, identity_id
)
SELECT
    tenants.tenant_id,
    orphaned.identity_id,
    orphaned.identity_id AS entity,
    'The owner of ' || orphaned.identity_id || CASE WHEN orphaned.has_left THEN ' has left: ' ELSE ' is away: ' END
        || array_to_string(orphaned.owners_gone, ', ') AS title,
    -- Somebody stands in until an owner is found.
    CASE WHEN orphaned.has_backup THEN 2 ELSE 3 END AS severity,
    orphaned.environment,
    orphaned.vendor_hosted,
    orphaned.class,
    orphaned.roles,
    orphaned.owners_gone,
    orphaned.left_at,
    orphaned.backup_owner,
    active.last_at AS last_activity_at,
    coalesce(live.live_credentials, 0) AS live_credentials,
    coalesce(active.first_at, orphaned.left_at, orphaned.registered_at, orphaned.status_since, date_trunc('day', $as_of))
        AS first_seen,
    coalesce(active.last_at, orphaned.left_at, orphaned.registered_at, orphaned.status_since, date_trunc('day', $as_of))
        AS last_seen,
    coalesce(active.event_uids, CAST([] AS VARCHAR[])) AS event_uids
FROM orphaned
CROSS JOIN tenants
LEFT JOIN active
    ON tenants.tenant_id = active.tenant_id AND orphaned.identity_id = active.identity_id
LEFT JOIN live ON tenants.tenant_id = live.tenant_id AND orphaned.identity_id = live.identity_id
