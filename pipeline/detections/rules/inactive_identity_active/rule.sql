-- A decommissioned or suspended identity still acts, or is still given credentials.
--
-- One row per identity.  What counts is when it happened, not when we heard of it.  A state
-- without a date holds for all the time for which the registry states it; a denial is the
-- control working, and revocations and inspections are the clearing up.
WITH ended AS (
    SELECT
        identity_id, status, status_since, environment, vendor_hosted, class,
        greatest(valid_from, coalesce(status_since, valid_from)) AS since, valid_to AS until
    FROM reg_identities_as_of
    WHERE status IN ('decommissioned', 'suspended')
    UNION
    -- The date that the registry gives now reaches back behind the day it was written down.
    SELECT
        identity_id, status, status_since, environment, vendor_hosted, class,
        status_since AS since, TIMESTAMPTZ '9999-12-31 00:00:00+00' AS until
    FROM reg_identities
    WHERE status IN ('decommissioned', 'suspended') AND status_since IS NOT NULL
),
names AS (
    SELECT DISTINCT named.identity_id, named.issuer, named.name
    FROM reg_names AS named
    INNER JOIN ended ON named.identity_id = ended.identity_id
),
keys AS (
    SELECT DISTINCT own.identity_id, own.issuer, own.kind, own.id
    FROM reg_credential_ids AS own
    INNER JOIN ended ON own.identity_id = ended.identity_id
),
acts AS (
    SELECT
        tenant_id, event_uid, event_time, observer, environment, agent_id AS name, agent_issuer AS issuer,
        credential_issuer, credential_kind, credential_id, 'call' AS did, tool_name AS did_what,
        action_class, resource_sensitivity
    FROM tool_calls
    WHERE (agent_id IN (SELECT name FROM names) OR credential_id IN (SELECT id FROM keys))
        AND outcome <> 'denied' AND coalesce(decision_effect, 'none') <> 'deny'
    UNION ALL
    SELECT
        tenant_id, event_uid, event_time, observer, environment, actor_id AS name, actor_issuer AS issuer,
        credential_issuer, credential_kind, credential_id, 'call' AS did, tool_name AS did_what,
        action_class, resource_sensitivity
    FROM tool_calls
    WHERE actor_id IN (SELECT name FROM names) AND actor_id <> agent_id
        AND outcome <> 'denied' AND coalesce(decision_effect, 'none') <> 'deny'
    UNION ALL
    SELECT
        tenant_id, event_uid, event_time, observer, environment, actor_id AS name, actor_issuer AS issuer,
        credential_issuer, credential_kind, credential_id,
        CASE WHEN op = 'use' THEN 'use' ELSE 'new credential' END AS did, op AS did_what,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity
    FROM token_events
    WHERE outcome = 'success' AND op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'use')
        AND (actor_id IN (SELECT name FROM names) OR credential_id IN (SELECT id FROM keys))
    UNION ALL
    SELECT
        tenant_id, event_uid, event_time, observer, environment,
        -- A credential that an identity gets for itself may name it as subject only.
        coalesce(client_id, subject_id) AS name,
        CASE WHEN client_id IS NULL THEN subject_issuer ELSE credential_issuer END AS issuer,
        credential_issuer, credential_kind, credential_id,
        CASE WHEN op = 'use' THEN 'use' ELSE 'new credential' END AS did, op AS did_what,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity
    FROM token_events
    WHERE outcome = 'success' AND op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'use')
        AND (
            coalesce(client_id, subject_id) IN (SELECT name FROM names)
            OR credential_id IN (SELECT id FROM keys)
        )
        AND coalesce(client_id, subject_id) IS DISTINCT FROM actor_id
    UNION ALL
    SELECT
        tenant_id, event_uid, event_time, observer, environment,
        -- Who uses the secret of another is looked at as himself.
        coalesce(accessed_by_id, bound_identity_id) AS name,
        CASE WHEN accessed_by_id IS NULL THEN bound_identity_issuer ELSE accessed_by_issuer END AS issuer,
        CAST(NULL AS VARCHAR) AS credential_issuer, CAST(NULL AS VARCHAR) AS credential_kind,
        CAST(NULL AS VARCHAR) AS credential_id,
        'use' AS did, op || ' of a secret' AS did_what,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity
    FROM secret_events
    WHERE (op = 'use' AND coalesce(accessed_by_id, bound_identity_id) IN (SELECT name FROM names))
        OR (op = 'read' AND accessed_by_id IN (SELECT name FROM names))
),
seen AS (
    SELECT tenant_id, name, issuer
    FROM acts
    WHERE name IN (SELECT name FROM names)
    GROUP BY tenant_id, name, issuer
),
-- A name that fits two identities, neither by its issuer, is nobody's.
known AS (
    SELECT
        seen.tenant_id, seen.name, seen.issuer,
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
by_name AS (
    SELECT acts.*, known.identity_id
    FROM acts
    INNER JOIN known
        ON acts.tenant_id = known.tenant_id AND acts.name = known.name
        AND acts.issuer IS NOT DISTINCT FROM known.issuer
),
-- Its key in the hands of whoever it may be.
by_key AS (
    SELECT acts.*, own.identity_id
    FROM acts
    INNER JOIN keys AS own
        ON acts.credential_id = own.id AND acts.credential_kind = own.kind
        AND (own.issuer IS NULL OR acts.credential_issuer IS NULL OR own.issuer = acts.credential_issuer)
),
late AS (
    SELECT DISTINCT
        act.tenant_id, act.identity_id, act.event_uid, act.event_time, act.observer, act.environment,
        act.did, act.did_what, act.action_class, act.resource_sensitivity,
        ended.status, ended.status_since, ended.vendor_hosted, ended.class,
        -- Where two statements hold, the more final one tells more.
        CASE WHEN ended.status = 'decommissioned' THEN 0 ELSE 1 END AS rank
    FROM (SELECT * FROM by_name UNION SELECT * FROM by_key) AS act
    INNER JOIN ended
        ON act.identity_id = ended.identity_id
        AND epoch(act.event_time) - epoch(ended.since) > $skew_s AND act.event_time < ended.until
),
placed AS (
    SELECT
        late.*,
        -- The credentials that it got first: they are what has to be taken away.
        dense_rank() OVER (
            PARTITION BY tenant_id, identity_id
            ORDER BY CASE WHEN did = 'new credential' THEN 0 ELSE 1 END, event_time, event_uid
        ) AS place,
        row_number() OVER (PARTITION BY tenant_id, identity_id ORDER BY rank, event_time DESC, event_uid)
            AS newest
    FROM late
),
found AS (
    SELECT
        tenant_id, identity_id,
        min(status) FILTER (WHERE newest = 1) AS status,
        min(status_since) FILTER (WHERE newest = 1) AS status_since,
        min(class) AS class,
        bool_or(coalesce(vendor_hosted, false)) AS vendor_hosted,
        count(DISTINCT event_uid) FILTER (WHERE did = 'call') AS calls,
        count(DISTINCT event_uid) FILTER (WHERE did = 'new credential') AS new_credentials,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        CASE WHEN count(DISTINCT coalesce(environment, 'unknown')) = 1 THEN min(environment) END AS environment,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        list_sort(list_distinct(list(did_what) FILTER (WHERE place <= $evidence_max))) AS did,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list_distinct(list(event_uid) FILTER (WHERE place <= $evidence_max))) AS event_uids
    FROM placed
    GROUP BY tenant_id, identity_id
),
live AS (
    SELECT held.tenant_id, names.identity_id,
        list_sort(list(DISTINCT held.kind || ' ' || held.id)) AS live_credentials
    FROM credentials AS held
    INNER JOIN names
        ON coalesce(held.actor_id, held.client_id, held.subject_id) = names.name
        AND (
            names.issuer IS NULL OR coalesce(held.actor_issuer, held.issuer) IS NULL
            OR names.issuer = coalesce(held.actor_issuer, held.issuer)
        )
    WHERE held.revoked_at IS NULL AND held.seen_issued
        AND (held.expires_at > $as_of OR held.never_expires OR held.is_static)
    GROUP BY held.tenant_id, names.identity_id
)
SELECT
    found.tenant_id,
    found.identity_id,
    found.identity_id AS entity,
    'The ' || found.status || ' identity ' || found.identity_id || CASE
        WHEN found.new_credentials > 0 THEN ' was given new credentials' ELSE ' still acts'
    END AS title,
    CASE WHEN found.new_credentials > 0 THEN 5 ELSE 4 END AS severity,
    found.environment,
    found.vendor_hosted,
    coalesce(found.observer, 'agent_runtime') AS observer,
    found.action_class,
    found.resource_sensitivity,
    found.status AS registry_status,
    found.status_since,
    found.class,
    found.calls,
    found.new_credentials,
    found.did,
    coalesce(live.live_credentials, CAST([] AS VARCHAR[]))[1:$evidence_max] AS live_credentials,
    found.first_seen,
    found.last_seen,
    found.event_uids
FROM found
LEFT JOIN live ON found.tenant_id = live.tenant_id AND found.identity_id = live.identity_id
