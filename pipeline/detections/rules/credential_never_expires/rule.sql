-- A credential or secret of an agent is known to have no end.
--
-- One row per secret, or per credential that no secret row stands for.  A missing expiry is
-- not the same as none, and says nothing.  Whom neither the registry nor any event calls a
-- person or another kind of service counts as an agent: keys are made for machines.  A secret
-- whose holder nobody wrote down is held by whoever used it last.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
unbound AS (
    SELECT tenant_id, secret_id
    FROM secrets
    WHERE never_expires AND expires_at IS NULL AND bound_identity_id IS NULL
),
uses AS (
    SELECT
        unbound.tenant_id, unbound.secret_id, call.agent_id AS name, call.agent_issuer AS issuer,
        call.event_time, call.event_uid
    FROM unbound
    INNER JOIN credentials AS held ON unbound.tenant_id = held.tenant_id AND unbound.secret_id = held.id
    INNER JOIN call_links AS link ON held.tenant_id = link.tenant_id AND held.credential_key = link.credential_key
    INNER JOIN tool_calls AS call ON link.tenant_id = call.tenant_id AND link.event_uid = call.event_uid
    WHERE call.outcome = 'success' AND (held.is_static OR held.kind IN ('api_key_id', 'access_key_id'))
    UNION ALL
    SELECT
        unbound.tenant_id, unbound.secret_id, event.accessed_by_id AS name, event.accessed_by_issuer AS issuer,
        event.event_time, event.event_uid
    FROM unbound
    INNER JOIN secret_events AS event ON unbound.tenant_id = event.tenant_id AND unbound.secret_id = event.secret_id
    WHERE event.op = 'use' AND event.accessed_by_id IS NOT NULL
),
-- Who was listed together with it is listed again, and it is not: it is gone, though nobody said so.
listed AS (
    SELECT tenant_id, secret_id, max(event_time) AS listed_at, max(source) AS listed_by
    FROM secret_events
    WHERE op = 'inventory' AND snapshot_complete
    GROUP BY tenant_id, secret_id
),
listings AS (
    SELECT
        event.tenant_id, event.source, date_trunc('hour', event.event_time) AS listed_in,
        max(listed.listed_at) AS listed_again_at
    FROM secret_events AS event
    INNER JOIN listed ON event.tenant_id = listed.tenant_id AND event.secret_id = listed.secret_id
    WHERE event.op = 'inventory' AND event.snapshot_complete
    GROUP BY event.tenant_id, event.source, date_trunc('hour', event.event_time)
),
unlisted AS (
    SELECT listed.tenant_id, listed.secret_id
    FROM listed
    INNER JOIN secrets AS secret ON listed.tenant_id = secret.tenant_id AND listed.secret_id = secret.secret_id
    INNER JOIN listings
        ON listed.tenant_id = listings.tenant_id AND listed.listed_by = listings.source
        AND date_trunc('hour', listed.listed_at) = listings.listed_in
    WHERE epoch(listings.listed_again_at) - epoch(listed.listed_at) >= $relisted_s
        -- Used since, it is there.
        AND secret.last_seen < listings.listed_again_at
),
told AS (
    SELECT tenant_id, secret_id, max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer
    FROM secret_events
    GROUP BY tenant_id, secret_id
),
users AS (
    SELECT
        tenant_id, secret_id, arg_max(name, (event_time, event_uid)) AS name,
        arg_max(issuer, (event_time, event_uid)) AS issuer, max(event_time) AS used_at,
        arg_max(event_uid, (event_time, event_uid)) AS event_uid
    FROM uses
    GROUP BY tenant_id, secret_id
),
endless AS (
    SELECT
        secret.tenant_id, 'secret' AS held_as, secret.secret_id AS held_key, secret.secret_id AS held_id,
        CAST(NULL AS VARCHAR) AS credential_key, secret.secret_kind AS kind,
        coalesce(secret.bound_identity_id, users.name) AS holder,
        CASE WHEN secret.bound_identity_id IS NULL THEN users.issuer ELSE secret.bound_identity_issuer END
            AS holder_issuer,
        CAST(NULL AS VARCHAR) AS subject_kind,
        secret.scopes, secret.environment, told.observer, secret.created_at AS made_at,
        greatest(secret.last_used_at, users.used_at) AS last_used_at,
        secret.first_seen, greatest(secret.last_seen, users.used_at) AS last_seen,
        CASE WHEN users.event_uid IS NULL THEN secret.event_uids
            ELSE list_append(secret.event_uids, users.event_uid) END AS event_uids
    FROM secrets AS secret
    LEFT JOIN unlisted ON secret.tenant_id = unlisted.tenant_id AND secret.secret_id = unlisted.secret_id
    LEFT JOIN told ON secret.tenant_id = told.tenant_id AND secret.secret_id = told.secret_id
    LEFT JOIN users ON secret.tenant_id = users.tenant_id AND secret.secret_id = users.secret_id
    WHERE secret.never_expires AND secret.expires_at IS NULL AND secret.status = 'active'
        AND unlisted.secret_id IS NULL
        -- Keys of a signing service follow a policy of their own.
        AND coalesce(secret.secret_kind, 'other') <> 'signing_key'
    UNION ALL
    SELECT
        held.tenant_id, 'credential' AS held_as, held.credential_key AS held_key, held.id AS held_id,
        held.credential_key, held.kind,
        coalesce(held.actor_id, held.client_id, held.subject_id) AS holder,
        coalesce(held.actor_issuer, held.subject_issuer) AS holder_issuer,
        held.subject_kind,
        held.scopes, held.environment, held.observer, held.issued_at AS made_at, held.last_used_at,
        held.first_seen, held.last_seen, held.event_uids
    FROM credentials AS held
    LEFT JOIN secrets AS stored
        ON held.tenant_id = stored.tenant_id AND held.id = stored.secret_id
    WHERE held.never_expires AND held.expires_at IS NULL AND held.revoked_at IS NULL
        AND stored.secret_id IS NULL
        -- A delegation record without a token of its own is policy, not a credential.
        AND NOT (coalesce(held.issue_op, 'issue') = 'delegate' AND held.token_type IS NULL)
),
registered AS (
    SELECT
        endless.tenant_id, endless.held_as, endless.held_key, min(names.identity_id) AS identity_id,
        bool_or(identity.kind IN ('agent', 'agent_user')) AS is_agent,
        bool_or(identity.vendor_hosted) AS vendor_hosted,
        bool_and(
            identity.owner_iam IS NULL AND identity.owner_platform IS NULL AND identity.owner_application IS NULL
        ) AS unowned
    FROM endless
    INNER JOIN names
        ON endless.holder = names.subject
        AND (names.issuer IS NULL OR endless.holder_issuer IS NULL OR names.issuer = endless.holder_issuer)
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
    GROUP BY endless.tenant_id, endless.held_as, endless.held_key
),
excepted AS (
    SELECT DISTINCT endless.tenant_id, endless.held_as, endless.held_key
    FROM endless
    INNER JOIN names
        ON endless.holder = names.subject
        AND (names.issuer IS NULL OR endless.holder_issuer IS NULL OR names.issuer = endless.holder_issuer)
    INNER JOIN reg_static_exceptions AS exception
        ON names.identity_id = exception.identity_id
        AND (exception.secret_id IS NULL OR exception.secret_id = endless.held_id)
        AND exception.since <= $as_of AND exception.until > $as_of
),
-- Where the registry does not know the holder, an agent is whoever makes tool calls.
callers AS (
    SELECT DISTINCT endless.tenant_id, endless.held_as, endless.held_key
    FROM endless
    INNER JOIN (SELECT DISTINCT tenant_id, agent_id FROM tool_calls) AS caller
        ON endless.tenant_id = caller.tenant_id AND endless.holder = caller.agent_id
    UNION
    SELECT DISTINCT endless.tenant_id, endless.held_as, endless.held_key
    FROM endless
    INNER JOIN call_links AS link
        ON endless.tenant_id = link.tenant_id AND endless.credential_key = link.credential_key
),
people AS (
    SELECT DISTINCT endless.tenant_id, endless.held_as, endless.held_key
    FROM endless
    INNER JOIN (
        SELECT tenant_id, subject_id AS name FROM tool_calls WHERE subject_kind = 'human'
        UNION
        SELECT tenant_id, subject_id AS name FROM token_events WHERE subject_kind = 'human'
    ) AS person
        ON endless.tenant_id = person.tenant_id AND endless.holder = person.name
    UNION
    SELECT endless.tenant_id, endless.held_as, endless.held_key
    FROM endless
    INNER JOIN reg_people AS person ON endless.holder = person.principal
),
rated AS (
    SELECT endless.tenant_id, endless.held_as, endless.held_key, max(catalogue.tier) AS tier
    FROM endless
    CROSS JOIN unnest(endless.scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue ON item.scope = catalogue.scope
    GROUP BY endless.tenant_id, endless.held_as, endless.held_key
)
SELECT
    endless.tenant_id,
    endless.held_as,
    endless.held_key,
    endless.held_id AS entity,
    coalesce(endless.kind, endless.held_as) || ' of ' || coalesce(endless.holder, 'an unknown holder')
        || ' never expires' AS title,
    CASE
        WHEN rated.tier >= 3 OR registered.unowned THEN 4
        -- An agent that a registry does not know: nobody owns it.
        WHEN registered.identity_id IS NULL AND callers.held_key IS NOT NULL
            AND EXISTS (SELECT 1 FROM reg_identities) THEN 4
        ELSE 3
    END AS severity,
    endless.credential_key,
    registered.identity_id,
    coalesce(registered.vendor_hosted, false) AS vendor_hosted,
    endless.environment,
    endless.observer,
    endless.kind,
    endless.holder,
    endless.made_at,
    endless.last_used_at,
    coalesce(rated.tier, 0) AS tier,
    endless.first_seen,
    endless.last_seen,
    list_sort(list_distinct(endless.event_uids)) AS event_uids
FROM endless
LEFT JOIN registered
    ON endless.tenant_id = registered.tenant_id AND endless.held_as = registered.held_as
    AND endless.held_key = registered.held_key
LEFT JOIN callers
    ON endless.tenant_id = callers.tenant_id AND endless.held_as = callers.held_as
    AND endless.held_key = callers.held_key
LEFT JOIN rated
    ON endless.tenant_id = rated.tenant_id AND endless.held_as = rated.held_as
    AND endless.held_key = rated.held_key
LEFT JOIN excepted
    ON endless.tenant_id = excepted.tenant_id AND endless.held_as = excepted.held_as
    AND endless.held_key = excepted.held_key
LEFT JOIN people
    ON endless.tenant_id = people.tenant_id AND endless.held_as = people.held_as
    AND endless.held_key = people.held_key
WHERE (
        coalesce(registered.is_agent, false)
        OR coalesce(endless.subject_kind, 'unknown') IN ('agent', 'agent_user')
        OR callers.held_key IS NOT NULL
        OR (
            registered.identity_id IS NULL AND people.held_key IS NULL AND endless.holder IS NOT NULL
            AND coalesce(endless.subject_kind, 'unknown') <> 'human'
        )
    )
    AND excepted.held_key IS NULL
