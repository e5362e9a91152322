-- Who is told about each finding: the accountable owner, as of now, of the identity behind it.
--
-- The identity is what the rule names, else the entity, else the last actor of the chain; the
-- first of these that the registry knows counts.  Within it: the owner of the rule's role, the
-- other owners in order, the backup owner.  A finding about a source that the registry lists goes
-- to the owner of the source.  Nobody left is `unowned`.
WITH behind AS (
    SELECT
        unrouted.finding_id, unrouted.tenant_id, unrouted.identity_id, unrouted.entity,
        unrouted.chain_path[-1] AS last_actor,
        CASE
            WHEN held.actor_id = unrouted.chain_path[-1] THEN held.actor_issuer
            WHEN held.subject_id = unrouted.chain_path[-1] THEN held.subject_issuer
        END AS last_issuer
    FROM unrouted
    LEFT JOIN credentials AS held
        ON held.tenant_id = unrouted.tenant_id AND held.credential_key = unrouted.credential_key
),
named AS (
    SELECT finding_id, 1 AS place, identity_id AS name, CAST(NULL AS VARCHAR) AS issuer FROM behind
    UNION ALL
    SELECT finding_id, 2 AS place, entity AS name,
        CASE WHEN entity = last_actor THEN last_issuer END AS issuer
    FROM behind
    UNION ALL
    SELECT finding_id, 3 AS place, last_actor AS name, last_issuer AS issuer FROM behind
),
identified AS (
    SELECT DISTINCT named.finding_id, named.place, known.identity_id
    FROM named
    JOIN reg_names AS known
        ON known.name = named.name
        AND (known.issuer IS NULL OR named.issuer IS NULL OR known.issuer = named.issuer)
),
owners AS (
    SELECT
        identity_id, owner,
        CASE
            WHEN role = $owner_role THEN 0
            WHEN role = 'application' THEN 1
            WHEN role = 'iam' THEN 2
            ELSE 3
        END AS place
    FROM reg_owners
    -- Null where the registry names no people at all: then whoever is named is told.
    WHERE owner IS NOT NULL AND is_accountable IS DISTINCT FROM false
),
gone AS (
    SELECT DISTINCT principal FROM reg_people
    WHERE status = 'left' OR coalesce(left_at <= $now, false)
),
backups AS (
    SELECT reg_identities.identity_id, reg_identities.backup_owner
    FROM reg_identities
    ANTI JOIN gone ON gone.principal = reg_identities.backup_owner
    WHERE reg_identities.backup_owner IS NOT NULL
),
responsible AS (
    SELECT identity_id, arg_min(owner, place) AS owner
    FROM (
        SELECT identity_id, owner, place FROM owners
        UNION ALL
        SELECT identity_id, backup_owner AS owner, 4 AS place FROM backups
    )
    GROUP BY identity_id
),
-- A name that two identities with different owners bear is told to nobody by guess.
routed AS (
    SELECT
        identified.finding_id, identified.place,
        min(coalesce(responsible.owner, 'unowned')) AS owner
    FROM identified
    LEFT JOIN responsible ON responsible.identity_id = identified.identity_id
    GROUP BY identified.finding_id, identified.place
    HAVING count(DISTINCT coalesce(responsible.owner, 'unowned')) = 1
),
-- The name of a source is no identity's; the entry of the tenant itself comes first.
of_sources AS (
    SELECT
        behind.finding_id, 4 AS place,
        arg_min(known.owner, CASE WHEN known.tenant_id IS NULL THEN 1 ELSE 0 END) AS owner
    FROM behind
    JOIN reg_sources AS known
        ON known.source = behind.entity
        AND (known.tenant_id IS NULL OR known.tenant_id = behind.tenant_id)
    ANTI JOIN gone ON gone.principal = known.owner
    WHERE known.owner IS NOT NULL
    GROUP BY behind.finding_id
),
told AS (
    SELECT finding_id, arg_min(owner, place) AS owner
    FROM (SELECT * FROM routed UNION ALL SELECT * FROM of_sources) AS every_way
    GROUP BY finding_id
)
SELECT unrouted.* EXCLUDE (identity_id), coalesce(told.owner, 'unowned') AS route_owner
FROM unrouted
LEFT JOIN told ON told.finding_id = unrouted.finding_id
ORDER BY unrouted.finding_id
