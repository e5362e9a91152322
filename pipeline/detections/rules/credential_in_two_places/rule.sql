-- One credential was used from two places within minutes.
--
-- One row per credential.  A place is a workload, or a public network, and two are compared
-- only where points of one kind saw both: each observer sees the last hop before it.  Replicas
-- of a workload, workloads of one registered identity, private addresses, neighbouring addresses
-- and the registered egress of the agent are one place.
-- Most credentials are used from one place only: three columns tell, before anything is carried.
WITH moving AS (
    SELECT tenant_id, credential_key
    FROM calls
    WHERE outcome = 'success' AND (workload_id IS NOT NULL OR src_ip IS NOT NULL)
        AND link_method IN ('T1', 'T2') AND link_confidence >= $link_confidence_min
    GROUP BY tenant_id, credential_key
    HAVING min(workload_id) <> max(workload_id) OR min(lower(trim(src_ip))) <> max(lower(trim(src_ip)))
),
uses AS (
    SELECT
        call.tenant_id, call.credential_key, call.event_uid, call.event_time, call.source, call.observer,
        call.agent_id, call.agent_issuer, call.workload_id, lower(trim(call.src_ip)) AS src_ip, call.tool_name,
        call.action_class, call.resource_sensitivity, call.environment, call.required_scopes
    FROM calls AS call
    INNER JOIN moving ON call.tenant_id = moving.tenant_id AND call.credential_key = moving.credential_key
    WHERE call.outcome = 'success' AND (call.workload_id IS NOT NULL OR call.src_ip IS NOT NULL)
        AND call.link_method IN ('T1', 'T2') AND call.link_confidence >= $link_confidence_min
),
gateways AS (
    SELECT names.name, period.valid_from, period.valid_to
    FROM reg_identities_as_of AS period
    INNER JOIN reg_names AS names ON period.identity_id = names.identity_id
    WHERE period.pass_through
),
moved AS (
    SELECT
        uses.*, held.cnf_thumbprint IS NULL AS is_bearer, held.actor_id AS held_actor, held.client_id AS held_client,
        held.scopes AS held_scopes, held.issuer, held.kind, held.id, held.event_uids AS held_events
    FROM uses
    INNER JOIN credentials AS held
        ON uses.tenant_id = held.tenant_id AND uses.credential_key = held.credential_key
    LEFT JOIN gateways AS by_workload
        ON uses.workload_id = by_workload.name
        AND uses.event_time >= by_workload.valid_from AND uses.event_time < by_workload.valid_to
    LEFT JOIN gateways AS by_agent
        ON uses.agent_id = by_agent.name
        AND uses.event_time >= by_agent.valid_from AND uses.event_time < by_agent.valid_to
    WHERE by_workload.name IS NULL AND by_agent.name IS NULL
        -- A transaction token goes through every workload of its call by design.
        AND NOT ends_with(replace(lower(coalesce(held.token_type, '')), '-', '_'), 'txn_token')
),
-- IPv4 as a number; IPv6 by its first groups.  Anything else (a cloud service's name) is no place.
addresses AS (
    SELECT
        src_ip,
        CASE WHEN regexp_matches(src_ip, '^[0-9]{1,3}([.][0-9]{1,3}){3}$')
            THEN CAST(split_part(src_ip, '.', 1) AS BIGINT) * 16777216 + CAST(split_part(src_ip, '.', 2) AS BIGINT) * 65536
                + CAST(split_part(src_ip, '.', 3) AS BIGINT) * 256 + CAST(split_part(src_ip, '.', 4) AS BIGINT)
        END AS number,
        regexp_matches(src_ip, '^[0-9a-f]{1,4}:[0-9a-f:]*:[0-9a-f:.]*$') AND contains(src_ip, ':') AS is_v6
    FROM (SELECT DISTINCT src_ip FROM moved WHERE src_ip IS NOT NULL) AS seen
),
ranges AS (
    SELECT
        *,
        -- Private, carrier-grade, loopback and link-local addresses do not say where.
        coalesce(
            number BETWEEN 167772160 AND 184549375 OR number BETWEEN 2886729728 AND 2887778303
            OR number BETWEEN 3232235520 AND 3232301055 OR number BETWEEN 1681915904 AND 1686110207
            OR number BETWEEN 2130706432 AND 2147483647 OR number BETWEEN 2851995648 AND 2852061183
            OR number < 16777216,
            regexp_matches(src_ip, '^(fc|fd|fe8|fe9|fea|feb)[0-9a-f]*:')
        ) AS is_private
    FROM addresses
    WHERE number IS NOT NULL OR is_v6
),
networks AS (
    SELECT
        src_ip, number,
        CASE
            WHEN number IS NOT NULL THEN 'v4 ' || CAST(CAST(floor(number / 65536) AS BIGINT) AS VARCHAR)
            ELSE 'v6 ' || split_part(split_part(src_ip, '::', 1), ':', 1) || ':' || split_part(split_part(src_ip, '::', 1), ':', 2)
        END AS network
    FROM ranges
    WHERE NOT is_private
),
-- Registered egress: a prefix of addresses, for one identity or for everybody.
prefixes AS (
    SELECT
        identity_id, lower(ip_prefix) AS ip_prefix,
        CASE WHEN regexp_matches(ip_prefix, '^[0-9]{1,3}([.][0-9]{1,3}){3}(/[0-9]+)?$')
            THEN CAST(split_part(split_part(ip_prefix, '/', 1), '.', 1) AS BIGINT) * 16777216
                + CAST(split_part(split_part(ip_prefix, '/', 1), '.', 2) AS BIGINT) * 65536
                + CAST(split_part(split_part(ip_prefix, '/', 1), '.', 3) AS BIGINT) * 256
                + CAST(split_part(split_part(ip_prefix, '/', 1), '.', 4) AS BIGINT)
        END AS number,
        pow(2, 32 - CAST(coalesce(nullif(regexp_extract(ip_prefix, '^[0-9.]+/([0-9]+)$', 1), ''), '32') AS INTEGER)) AS size,
        -- 2001:db8:1::/48 begins as its addresses do.
        rtrim(split_part(split_part(lower(ip_prefix), '/', 1), '::', 1), ':') AS v6_start
    FROM reg_egress
),
egress AS (
    SELECT networks.src_ip, prefixes.identity_id
    FROM networks
    INNER JOIN prefixes
        ON (networks.number IS NOT NULL AND prefixes.number IS NOT NULL
            AND floor(networks.number / nullif(prefixes.size, 0)) = floor(prefixes.number / nullif(prefixes.size, 0)))
        OR (networks.number IS NULL AND prefixes.number IS NULL
            AND (starts_with(networks.src_ip, prefixes.v6_start || ':') OR networks.src_ip = prefixes.ip_prefix))
),
agent_names AS (
    SELECT DISTINCT parties.credential_key, parties.tenant_id, names.identity_id
    FROM (
        SELECT tenant_id, credential_key, agent_id AS name FROM moved
        UNION
        SELECT tenant_id, credential_key, held_actor AS name FROM moved
        UNION
        SELECT tenant_id, credential_key, held_client AS name FROM moved
    ) AS parties
    INNER JOIN reg_names AS names ON parties.name = names.name
),
known_egress AS (
    SELECT DISTINCT moved.tenant_id, moved.credential_key, moved.src_ip
    FROM moved
    INNER JOIN egress ON moved.src_ip = egress.src_ip
    LEFT JOIN agent_names AS own
        ON moved.tenant_id = own.tenant_id AND moved.credential_key = own.credential_key
        AND egress.identity_id = own.identity_id
    WHERE egress.identity_id IS NULL OR own.identity_id IS NOT NULL
),
-- A vendor's platform moves its work about; where it calls from must be registered to be known.
roaming AS (
    SELECT DISTINCT own.tenant_id, own.credential_key
    FROM agent_names AS own
    INNER JOIN reg_identities AS identity ON own.identity_id = identity.identity_id
    LEFT JOIN reg_egress AS listed ON own.identity_id = listed.identity_id
    WHERE identity.vendor_hosted AND listed.identity_id IS NULL
),
located AS (
    SELECT
        moved.*,
        CASE
            WHEN known_egress.src_ip IS NOT NULL THEN 'registered egress'
            WHEN roaming.credential_key IS NULL THEN networks.network
        END AS network_place,
        coalesce(inside.is_private, false) AS is_inside,
        -- Pods and numbered replicas of one workload, and its blue and green side, are it.
        coalesce('identity ' || names.identity_id, regexp_replace(regexp_replace(regexp_replace(
            lower(moved.workload_id), '-[0-9a-f]{6,10}-[a-z0-9]{5}$', ''), '-[0-9]+$', ''),
            '[-_](blue|green|canary|stable)$', '')) AS workload_place
    FROM moved
    LEFT JOIN networks ON moved.src_ip = networks.src_ip
    LEFT JOIN ranges AS inside ON moved.src_ip = inside.src_ip
    LEFT JOIN known_egress
        ON moved.tenant_id = known_egress.tenant_id AND moved.credential_key = known_egress.credential_key
        AND moved.src_ip = known_egress.src_ip
    LEFT JOIN roaming
        ON moved.tenant_id = roaming.tenant_id AND moved.credential_key = roaming.credential_key
    LEFT JOIN (SELECT name, min(identity_id) AS identity_id FROM reg_names GROUP BY name) AS names
        ON moved.workload_id = names.name
),
placed AS (
    SELECT *, 'workload' AS told_by, observer AS seen_by, workload_place AS place FROM located WHERE workload_place IS NOT NULL
    UNION ALL
    SELECT *, 'network' AS told_by, observer AS seen_by, network_place AS place FROM located WHERE network_place IS NOT NULL
    UNION ALL
    -- One and the same door sees it come from inside and from the internet.
    SELECT
        *, 'inside and outside' AS told_by, concat(observer, ' ', source) AS seen_by,
        CASE WHEN is_inside OR network_place = 'registered egress' THEN 'own network' ELSE network_place END AS place
    FROM located
    WHERE is_inside OR network_place IS NOT NULL
),
steps AS (
    SELECT
        *,
        lag(place) OVER step AS place_before,
        lag(event_time) OVER step AS used_before,
        lag(event_uid) OVER step AS uid_before,
        lag(workload_place) OVER step AS workload_before
    FROM placed
    WINDOW step AS (PARTITION BY tenant_id, credential_key, seen_by, told_by ORDER BY event_time, event_uid)
),
jumps AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY tenant_id, credential_key ORDER BY event_time, event_uid, told_by) AS number
    FROM steps
    WHERE place <> place_before AND epoch(event_time) - epoch(used_before) <= $window_s
        -- A workload that proved itself is one place, whatever way its traffic takes.
        AND NOT (told_by <> 'workload' AND coalesce(workload_place = workload_before, false))
        AND (told_by <> 'inside and outside' OR 'own network' IN (place, place_before))
),
rated AS (
    SELECT jumps.tenant_id, jumps.credential_key, max(catalogue.tier) AS tier
    FROM jumps
    CROSS JOIN unnest(list_concat(jumps.required_scopes, jumps.held_scopes)) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue ON item.scope = catalogue.scope
    GROUP BY jumps.tenant_id, jumps.credential_key
),
found AS (
    SELECT
        tenant_id, credential_key,
        min(agent_id) FILTER (WHERE number = 1) AS agent_id,
        min(place_before) FILTER (WHERE number = 1) AS from_place, min(place) FILTER (WHERE number = 1) AS to_place,
        min(epoch(event_time) - epoch(used_before)) AS shortest_s,
        bool_and(is_bearer) AS is_bearer,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS sensitivity,
        min(environment) AS environment,
        coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        min(issuer) AS issuer, min(kind) AS kind, min(id) AS id,
        list_sort(list_distinct(list(told_by))) AS told_by,
        list_sort(list_distinct(list_concat(
            list(place) FILTER (WHERE number <= $evidence_max), list(place_before) FILTER (WHERE number <= $evidence_max)
        ))) AS places,
        list_sort(list_distinct(list(src_ip) FILTER (WHERE src_ip IS NOT NULL AND number <= $evidence_max))) AS addresses,
        list_sort(list_distinct(list(tool_name) FILTER (WHERE number <= $evidence_max))) AS tools,
        count(DISTINCT event_uid) AS jumps,
        min(used_before) AS first_seen, max(event_time) AS last_seen,
        list_concat(
            list_concat(
                list(event_uid) FILTER (WHERE number <= $evidence_max),
                list(uid_before) FILTER (WHERE number <= $evidence_max)
            ),
            any_value(held_events)
        ) AS event_uids
    FROM jumps
    GROUP BY tenant_id, credential_key
)
SELECT
    found.tenant_id,
    found.credential_key,
    found.agent_id AS entity,
    'A credential of ' || found.agent_id || ' was used from two places within '
        || CAST(CAST(found.shortest_s AS BIGINT) AS VARCHAR) || ' s: ' || found.from_place || ', ' || found.to_place AS title,
    chain.confidence,
    chain.confidence AS chain_confidence,
    found.action_class,
    -- A bearer token of tier 3 weighs as a resource of that sensitivity.
    CASE WHEN found.is_bearer THEN greatest(coalesce(found.sensitivity, 0), coalesce(rated.tier, 0)) ELSE 0 END
        AS resource_sensitivity,
    found.environment,
    found.observer,
    found.is_bearer,
    found.issuer,
    found.kind,
    found.id AS token_id,
    found.told_by,
    found.places,
    found.addresses,
    found.tools,
    found.jumps,
    found.shortest_s,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(found.event_uids)) AS event_uids
FROM found
LEFT JOIN rated ON found.tenant_id = rated.tenant_id AND found.credential_key = rated.credential_key
LEFT JOIN chains AS chain
    ON found.tenant_id = chain.tenant_id AND found.credential_key = chain.credential_key
