-- A credential that slept for weeks works again, in a context that it never had.
--
-- One row per credential; an API key and the secret that stands for it are one.  Only what was
-- recorded before can be different now: a workload that nobody logged is not a new workload.
WITH versions AS (
    SELECT DISTINCT tenant_id, secret_id, secret_version FROM secret_events WHERE secret_version IS NOT NULL
),
ids AS (
    SELECT tenant_id, secret_id, secret_id AS id FROM secrets
    UNION
    SELECT tenant_id, secret_id, secret_id || '/' || secret_version AS id FROM versions
    UNION
    SELECT tenant_id, secret_id, secret_id || ':' || secret_version AS id FROM versions
),
held AS (
    SELECT
        cred.tenant_id, cred.credential_key, cred.issuer, cred.id, cred.kind, cred.environment,
        CASE WHEN stored.secret_id IS NULL THEN 'credential' ELSE 'secret' END AS held_as,
        coalesce(stored.secret_id, cred.credential_key) AS held_key,
        cred.actor_id, cred.client_id, cred.subject_id, cred.first_used_at, cred.last_used_at, cred.is_static
    FROM credentials AS cred
    LEFT JOIN (
        SELECT tenant_id, id, min(secret_id) AS secret_id FROM ids GROUP BY tenant_id, id
    ) AS stored
        ON cred.tenant_id = stored.tenant_id AND cred.id = stored.id
        AND (cred.is_static OR cred.kind IN ('api_key_id', 'access_key_id', 'secret_version'))
),
derived AS (
    SELECT tenant_id, parent_key, min(hop_time) AS first_at, max(hop_time) AS last_at
    FROM hops
    WHERE hop_kind IN ('exchange', 'assume', 'assertion', 'issue', 'refresh')
    GROUP BY tenant_id, parent_key
),
secret_spans AS (
    SELECT
        tenant_id, secret_id,
        -- A provider's date is a use as well, though nobody knows from where.
        min(coalesce(CASE WHEN op IN ('use', 'read') THEN event_time END, last_used_at)) AS first_at,
        max(coalesce(CASE WHEN op IN ('use', 'read') THEN event_time END, last_used_at)) AS last_at
    FROM secret_events
    GROUP BY tenant_id, secret_id
),
-- What has been in use for less than the limit never slept that long: most tokens end here.
candidates AS (
    SELECT tenant_id, held_as, held_key
    FROM (
        SELECT held.tenant_id, held.held_as, held.held_key, held.first_used_at AS first_at, held.last_used_at AS last_at
        FROM held
        UNION ALL
        SELECT held.tenant_id, held.held_as, held.held_key, derived.first_at, derived.last_at
        FROM held
        INNER JOIN derived ON held.tenant_id = derived.tenant_id AND held.credential_key = derived.parent_key
        UNION ALL
        SELECT tenant_id, 'secret' AS held_as, secret_id AS held_key, first_at, last_at FROM secret_spans
    ) AS spans
    GROUP BY tenant_id, held_as, held_key
    HAVING epoch(max(last_at)) - epoch(min(first_at)) > $dormant_d * 86400
),
watched AS (
    SELECT held.*
    FROM held
    INNER JOIN candidates
        ON held.tenant_id = candidates.tenant_id AND held.held_as = candidates.held_as
        AND held.held_key = candidates.held_key
),
uses AS (
    SELECT
        watched.tenant_id, watched.held_as, watched.held_key, watched.credential_key, call.event_time,
        call.event_uid, call.agent_id AS agent, call.agent_issuer, call.workload_id AS workload,
        call.src_ip, call.tool_name AS tool, call.required_scopes AS scopes, call.observer,
        call.action_class, call.resource_sensitivity, call.environment
    FROM watched
    INNER JOIN calls AS call
        ON watched.tenant_id = call.tenant_id AND watched.credential_key = call.credential_key
    WHERE call.outcome = 'success' AND call.link_confidence >= $link_confidence_min
    UNION ALL
    SELECT
        watched.tenant_id, watched.held_as, watched.held_key, watched.credential_key, hop.hop_time AS event_time,
        made.event_uid, hop.delegate AS agent, CAST(NULL AS VARCHAR) AS agent_issuer,
        CAST(NULL AS VARCHAR) AS workload, CAST(NULL AS VARCHAR) AS src_ip,
        CAST(NULL AS VARCHAR) AS tool, child.scopes, child.observer,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity, child.environment
    FROM watched
    INNER JOIN hops AS hop
        ON watched.tenant_id = hop.tenant_id AND watched.credential_key = hop.parent_key
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    CROSS JOIN unnest(hop.event_uids[1:1]) AS made(event_uid)
    WHERE hop.hop_kind IN ('exchange', 'assume', 'assertion', 'issue', 'refresh') AND hop.hop_time IS NOT NULL
    UNION ALL
    SELECT
        event.tenant_id, 'secret' AS held_as, event.secret_id AS held_key,
        CAST(NULL AS VARCHAR) AS credential_key, event.event_time, event.event_uid,
        event.accessed_by_id AS agent, event.accessed_by_issuer AS agent_issuer,
        CAST(NULL AS VARCHAR) AS workload, CAST(NULL AS VARCHAR) AS src_ip,
        CAST(NULL AS VARCHAR) AS tool, CAST([] AS VARCHAR[]) AS scopes, event.observer,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity, event.environment
    FROM secret_events AS event
    INNER JOIN candidates
        ON event.tenant_id = candidates.tenant_id AND candidates.held_as = 'secret'
        AND event.secret_id = candidates.held_key
    WHERE event.op IN ('use', 'read')
    UNION ALL
    SELECT
        event.tenant_id, 'secret' AS held_as, event.secret_id AS held_key,
        CAST(NULL AS VARCHAR) AS credential_key, event.last_used_at AS event_time, event.event_uid,
        CAST(NULL AS VARCHAR) AS agent, CAST(NULL AS VARCHAR) AS agent_issuer,
        CAST(NULL AS VARCHAR) AS workload, CAST(NULL AS VARCHAR) AS src_ip,
        CAST(NULL AS VARCHAR) AS tool, CAST([] AS VARCHAR[]) AS scopes, event.observer,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity, event.environment
    FROM secret_events AS event
    INNER JOIN candidates
        ON event.tenant_id = candidates.tenant_id AND candidates.held_as = 'secret'
        AND event.secret_id = candidates.held_key
    WHERE event.op NOT IN ('use', 'read') AND event.last_used_at IS NOT NULL
    UNION ALL
    -- Uses that the issuer or a resource server tells of, without a call.
    SELECT
        watched.tenant_id, watched.held_as, watched.held_key, watched.credential_key, event.event_time,
        event.event_uid, coalesce(event.actor_id, event.client_id) AS agent,
        CASE WHEN event.actor_id IS NOT NULL THEN event.actor_issuer END AS agent_issuer,
        CAST(NULL AS VARCHAR) AS workload, CAST(NULL AS VARCHAR) AS src_ip,
        CAST(NULL AS VARCHAR) AS tool, CAST([] AS VARCHAR[]) AS scopes, event.observer,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity, event.environment
    FROM watched
    INNER JOIN token_events AS event
        ON watched.tenant_id = event.tenant_id AND watched.kind = event.credential_kind
        AND watched.id = event.credential_id
        AND (watched.issuer IS NULL OR event.credential_issuer IS NULL OR watched.issuer = event.credential_issuer)
    WHERE event.op = 'use' AND event.outcome = 'success'
),
spaced AS (
    SELECT
        *,
        lag(event_time) OVER (
            PARTITION BY tenant_id, held_as, held_key ORDER BY event_time, event_uid
        ) AS before_at
    FROM uses
),
wakes AS (
    SELECT tenant_id, held_as, held_key, max(event_time) AS woke_at, max(before_at) AS slept_since
    FROM spaced
    WHERE epoch(event_time) - epoch(before_at) > $dormant_d * 86400
    GROUP BY tenant_id, held_as, held_key
),
-- The registered identity behind a name; one name for it, so that a rename is no new agent.
named AS (
    SELECT name, min(identity_id) AS identity_id
    FROM reg_names
    GROUP BY name
    HAVING count(DISTINCT identity_id) = 1
),
sided AS (
    SELECT
        uses.*, wakes.woke_at, wakes.slept_since, uses.event_time < wakes.woke_at AS is_before,
        coalesce(named.identity_id, uses.agent) AS identity,
        -- Two workloads of one identity are one place.
        coalesce(placed.identity_id, uses.workload) AS place_of,
        row_number() OVER (
            PARTITION BY uses.tenant_id, uses.held_as, uses.held_key, uses.event_time < wakes.woke_at
            ORDER BY uses.event_time, uses.event_uid
        ) AS place,
        row_number() OVER (
            PARTITION BY uses.tenant_id, uses.held_as, uses.held_key, uses.event_time < wakes.woke_at
            ORDER BY uses.event_time DESC, uses.event_uid DESC
        ) AS place_from_end
    FROM uses
    INNER JOIN wakes
        ON uses.tenant_id = wakes.tenant_id AND uses.held_as = wakes.held_as AND uses.held_key = wakes.held_key
    LEFT JOIN named ON uses.agent = named.name
    LEFT JOIN named AS placed ON uses.workload = placed.name
    WHERE epoch(uses.event_time) - epoch(wakes.woke_at) <= $burst_s
),
-- Whom a secret was made for counts as seen before, where nobody saw a use.
expected AS (
    SELECT secret.tenant_id, secret.secret_id AS held_key, coalesce(named.identity_id, name.who) AS identity
    FROM secrets AS secret
    CROSS JOIN unnest(list_append(secret.consumers, secret.bound_identity_id)) AS name(who)
    LEFT JOIN named ON name.who = named.name
    WHERE name.who IS NOT NULL
),
context AS (
    SELECT tenant_id, held_as, held_key, is_before, 'agent' AS what, identity AS item FROM sided
    UNION ALL
    SELECT expected.tenant_id, 'secret' AS held_as, expected.held_key, true AS is_before, 'agent' AS what, expected.identity AS item
    FROM expected
    UNION ALL
    SELECT tenant_id, held_as, held_key, is_before, 'workload' AS what, place_of AS item FROM sided
    UNION ALL
    SELECT tenant_id, held_as, held_key, is_before, 'tool' AS what, tool AS item FROM sided
    UNION ALL
    SELECT sided.tenant_id, sided.held_as, sided.held_key, sided.is_before, 'scope' AS what, item.scope AS item
    FROM sided
    CROSS JOIN unnest(sided.scopes) AS item(scope)
    UNION ALL
    -- Addresses change, networks rarely: /16 of IPv4 stands for a network, private ones for none.
    SELECT tenant_id, held_as, held_key, is_before, 'network' AS what,
        regexp_extract(src_ip, '^[0-9]+\.[0-9]+\.') || '0.0/16' AS item
    FROM sided
    WHERE regexp_matches(src_ip, '^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$')
        AND NOT regexp_matches(src_ip, '^(10|127)\.|^192\.168\.|^169\.254\.|^172\.(1[6-9]|2[0-9]|3[01])\.|^100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\.')
),
items AS (
    SELECT tenant_id, held_as, held_key, what, item, bool_or(is_before) AS was_before, bool_or(NOT is_before) AS is_now
    FROM context
    WHERE item IS NOT NULL
    GROUP BY tenant_id, held_as, held_key, what, item
),
kinds AS (
    SELECT *, bool_or(was_before) OVER (PARTITION BY tenant_id, held_as, held_key, what) AS is_known
    FROM items
),
changed AS (
    SELECT
        tenant_id, held_as, held_key,
        list_sort(list(what || ' ' || item) FILTER (WHERE is_known AND is_now AND NOT was_before)) AS new_context,
        list_sort(list(what || ' ' || item) FILTER (WHERE was_before)) AS known_context
    FROM kinds
    GROUP BY tenant_id, held_as, held_key
    HAVING bool_or(is_known AND is_now AND NOT was_before)
),
woken AS (
    SELECT
        tenant_id, held_as, held_key, min(woke_at) AS woke_at, min(slept_since) AS slept_since,
        max(credential_key) AS credential_key,
        max(agent) FILTER (WHERE NOT is_before AND place = 1) AS agent,
        max(agent_issuer) FILTER (WHERE NOT is_before AND place = 1) AS agent_issuer,
        count(*) FILTER (WHERE NOT is_before) AS uses,
        max(action_class) FILTER (
            WHERE NOT is_before AND action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) FILTER (WHERE NOT is_before) AS resource_sensitivity,
        max(observer) FILTER (WHERE NOT is_before AND observer <> 'agent_runtime') AS observer,
        max(environment) FILTER (WHERE NOT is_before) AS environment,
        max(event_time) AS last_seen,
        list(event_uid) FILTER (
            WHERE (NOT is_before AND place <= $evidence_max) OR (is_before AND place_from_end <= $evidence_max)
        ) AS event_uids
    FROM sided
    GROUP BY tenant_id, held_as, held_key
),
-- The holder, the user before and the user now: any of them may be known to work seasonally.
holders AS (
    SELECT tenant_id, held_as, held_key, identity AS holder, woke_at FROM sided
    UNION
    SELECT expected.tenant_id, 'secret' AS held_as, expected.held_key, expected.identity AS holder, woken.woke_at
    FROM expected
    INNER JOIN woken
        ON expected.tenant_id = woken.tenant_id AND woken.held_as = 'secret' AND expected.held_key = woken.held_key
    UNION
    SELECT watched.tenant_id, watched.held_as, watched.held_key, own.identity_id AS holder, woken.woke_at
    FROM watched
    INNER JOIN woken
        ON watched.tenant_id = woken.tenant_id AND watched.held_as = woken.held_as AND watched.held_key = woken.held_key
    INNER JOIN reg_credential_ids AS own ON watched.kind = own.kind AND watched.id = own.id
),
seasonal AS (
    SELECT DISTINCT holders.tenant_id, holders.held_as, holders.held_key
    FROM holders
    INNER JOIN reg_identities_as_of AS policy
        ON holders.holder = policy.identity_id
        AND holders.woke_at >= policy.valid_from AND holders.woke_at < policy.valid_to
    WHERE policy.seasonal
),
owners AS (
    SELECT tenant_id, held_as, held_key, min(policy.identity_id) AS identity_id, bool_or(policy.vendor_hosted) AS vendor_hosted
    FROM holders
    INNER JOIN reg_identities AS policy ON holders.holder = policy.identity_id
    GROUP BY tenant_id, held_as, held_key
)
SELECT
    woken.tenant_id,
    woken.held_as,
    woken.held_key,
    coalesce(woken.agent, secret.bound_identity_id, cred.id, woken.held_key) AS entity,
    coalesce(secret.secret_id, cred.id) || ' was used again after '
        || CAST(CAST(floor((epoch(woken.woke_at) - epoch(woken.slept_since)) / 86400) AS BIGINT) AS VARCHAR)
        || ' days, with ' || changed.new_context[1]
        || CASE WHEN array_length(changed.new_context) > 1
            THEN ' and ' || CAST(array_length(changed.new_context) - 1 AS VARCHAR) || ' more that is new' ELSE '' END AS title,
    woken.credential_key,
    owners.identity_id,
    owners.vendor_hosted,
    woken.action_class,
    woken.resource_sensitivity,
    coalesce(woken.environment, cred.environment, secret.environment) AS environment,
    coalesce(woken.observer, 'agent_runtime') AS observer,
    coalesce(secret.secret_kind, cred.kind) AS kind,
    woken.slept_since,
    woken.woke_at,
    CAST(epoch(woken.woke_at) - epoch(woken.slept_since) AS BIGINT) AS slept_s,
    changed.new_context[1:$evidence_max] AS new_context,
    changed.known_context[1:$evidence_max] AS known_context,
    woken.uses,
    woken.woke_at AS first_seen,
    woken.last_seen,
    list_sort(list_distinct(woken.event_uids)) AS event_uids
FROM woken
INNER JOIN changed
    ON woken.tenant_id = changed.tenant_id AND woken.held_as = changed.held_as AND woken.held_key = changed.held_key
LEFT JOIN seasonal
    ON woken.tenant_id = seasonal.tenant_id AND woken.held_as = seasonal.held_as AND woken.held_key = seasonal.held_key
LEFT JOIN owners
    ON woken.tenant_id = owners.tenant_id AND woken.held_as = owners.held_as AND woken.held_key = owners.held_key
LEFT JOIN secrets AS secret
    ON woken.tenant_id = secret.tenant_id AND woken.held_as = 'secret' AND woken.held_key = secret.secret_id
LEFT JOIN credentials AS cred
    ON woken.tenant_id = cred.tenant_id AND woken.credential_key = cred.credential_key
WHERE seasonal.held_key IS NULL
