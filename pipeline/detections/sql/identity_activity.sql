-- Which registered identities were seen, by which name: one row per tenant, name and issuer as
-- events give them, with the newest events that show it.
WITH seen AS (
    SELECT
        tenant_id, agent_id AS name, agent_issuer AS issuer, min(event_time) AS first_at, max(event_time) AS last_at,
        -- Of events at one moment the uid decides, so that any order of arrival gives the same.
        max({'at': event_time, 'uid': event_uid}, $most) AS newest
    FROM tool_calls
    GROUP BY tenant_id, agent_id, agent_issuer
    UNION ALL
    SELECT
        tenant_id, actor_id, actor_issuer, min(event_time), max(event_time),
        max({'at': event_time, 'uid': event_uid}, $most)
    FROM token_events
    WHERE actor_id IS NOT NULL
    GROUP BY tenant_id, actor_id, actor_issuer
    UNION ALL
    SELECT
        tenant_id, client_id, credential_issuer, min(event_time), max(event_time),
        max({'at': event_time, 'uid': event_uid}, $most)
    FROM token_events
    WHERE client_id IS NOT NULL
    GROUP BY tenant_id, client_id, credential_issuer
),
names AS (
    SELECT
        tenant_id, name, issuer, min(first_at) AS first_at, max(last_at) AS last_at,
        list_slice(list_reverse_sort(list_distinct(flatten(list(newest)))), 1, $most) AS newest
    FROM seen
    GROUP BY tenant_id, name, issuer
)
-- A name that fits two identities, neither by its issuer, is nobody's.
SELECT
    names.tenant_id,
    coalesce(min(named.identity_id) FILTER (WHERE named.issuer = names.issuer), min(named.identity_id))
        AS identity_id,
    names.name,
    names.issuer,
    names.first_at,
    names.last_at,
    list_sort(list_transform(names.newest, lambda one: one.uid)) AS event_uids
FROM names
JOIN reg_names AS named
    ON names.name = named.name
    AND (named.issuer IS NULL OR names.issuer IS NULL OR named.issuer = names.issuer)
GROUP BY names.tenant_id, names.name, names.issuer, names.first_at, names.last_at, names.newest
HAVING coalesce(
    nullif(count(DISTINCT named.identity_id) FILTER (WHERE named.issuer = names.issuer), 0),
    count(DISTINCT named.identity_id)
) = 1
