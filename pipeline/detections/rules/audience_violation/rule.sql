-- A token was accepted by a server that it was not issued for, or passed on by the one it was for.
--
-- One row per presenter and server.  Names are compared by their meaning: scheme, port, trailing
-- slash and registered aliases do not count, `crm` is https://crm.acme.example, and an audience
-- may be wider than the server's path.  Where audiences and servers are named in unrelated
-- ways nothing is said.
WITH shown AS (
    SELECT
        call.tenant_id, call.credential_key, call.event_uid, call.event_time, call.source, call.observer,
        call.agent_id, call.workload_id, call.tool_name, call.action_class, call.resource_sensitivity,
        call.environment,
        -- Only an address in `resource` names the server as well, unless it is what a tool fetched
        -- or wrote to: then nobody says that the token went there.
        coalesce(call.tool_server, CASE
            WHEN call.observer <> 'agent_runtime'
                AND coalesce(call.tool_protocol, 'unknown') NOT IN ('function', 'mcp_stdio', 'cloud_api', 'db', 'k8s')
                AND NOT coalesce(
                    list_contains(call.tags, 'untrusted_input') OR list_contains(call.tags, 'external_egress'), false
                )
                THEN nullif(regexp_extract(call.resource, '^https?://[^/]+'), '')
        END) AS server,
        list_sort(list_distinct(CASE
            WHEN array_length(call.presented_audience) > 0 THEN call.presented_audience
            ELSE coalesce(held.audience, CAST([] AS VARCHAR[]))
        END)) AS audience
    FROM calls AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE call.outcome = 'success'
        AND call.link_method IN ('T1', 'T2', 'T3') AND call.link_confidence >= $link_confidence_min
        -- Keys and sessions of a cloud have no audience; they open whatever their policy names.
        AND held.kind IN ('jti', 'uti', 'ath', 'token_sha256', 'local')
        AND NOT coalesce(held.is_static, false)
        -- A transaction token is for a whole trust domain and travels through it.
        AND NOT ends_with(replace(lower(coalesce(held.token_type, '')), '-', '_'), 'txn_token')
),
placed AS (
    SELECT * FROM shown WHERE server IS NOT NULL
),
pairs AS (
    SELECT DISTINCT tenant_id, audience, server FROM placed WHERE array_length(audience) > 0
),
items AS (
    SELECT pairs.tenant_id, pairs.audience, pairs.server, item.name
    FROM pairs
    CROSS JOIN unnest(pairs.audience) AS item(name)
),
audience_names AS (
    SELECT tenant_id, name FROM items
    UNION
    SELECT held.tenant_id, item.name
    FROM credentials AS held
    CROSS JOIN unnest(held.audience) AS item(name)
),
server_names AS (
    SELECT tenant_id, server AS name FROM placed
    UNION
    SELECT tenant_id, tool_server AS name FROM tool_calls WHERE tool_server IS NOT NULL
),
all_names AS (
    SELECT name FROM audience_names
    UNION
    SELECT name FROM server_names
    UNION
    SELECT server AS name FROM reg_resource_aliases
    UNION
    SELECT alias AS name FROM reg_resource_aliases
    UNION
    SELECT name FROM reg_names
),
-- Ports that say no more than the scheme, and what follows a path, are dropped.
trimmed AS (
    SELECT
        name,
        rtrim(replace(replace(concat(
            split_part(split_part(
                regexp_replace(lower(trim(name)), '^[a-z][a-z0-9+.-]*://', ''), '?', 1
            ), '#', 1), '/'
        ), ':443/', '/'), ':80/', '/'), '/') AS canon
    FROM all_names
),
forms AS (
    SELECT
        name, canon, split_part(canon, '/', 1) AS host,
        coalesce(
            nullif(regexp_extract(split_part(canon, '/', 1), '[^.]+[.][^.]+$'), ''), split_part(canon, '/', 1)
        ) AS site,
        NOT regexp_matches(canon, '[./:]') AS is_bare,
        regexp_matches(split_part(canon, '/', 1), '[.]|^localhost') AND NOT starts_with(canon, 'urn:') AS is_address,
        -- crm-mcp, mcp-crm and crm are one server by three habits.
        regexp_replace(regexp_replace(canon, '^(mcp|api)[-_]', ''), '[-_](mcp|server|api|svc|service)$', '') AS plain,
        regexp_extract(canon, '[-_](mcp|server|api|svc|service)$', 1) AS ending
    FROM trimmed
    WHERE canon <> ''
),
words AS (
    SELECT DISTINCT
        forms.name,
        regexp_replace(regexp_replace(part.word, '^(mcp|api)[-_]', ''), '[-_](mcp|server|api|svc|service)$', '')
            AS word
    FROM forms
    CROSS JOIN unnest(string_split_regex(forms.canon, '[./:]+')) AS part(word)
    WHERE part.word <> ''
),
one_party AS (
    SELECT names.name, 'identity ' || names.identity_id AS party FROM reg_names AS names
    UNION
    SELECT alias AS name, 'server ' || server AS party FROM reg_resource_aliases
    UNION
    SELECT server AS name, 'server ' || server AS party FROM reg_resource_aliases
),
parties AS (
    SELECT DISTINCT alike.name, one_party.party
    FROM one_party
    INNER JOIN forms AS registered ON one_party.name = registered.name
    INNER JOIN forms AS alike ON registered.canon = alike.canon
),
audience_forms AS (
    SELECT forms.* FROM forms INNER JOIN (SELECT DISTINCT name FROM audience_names) AS used ON forms.name = used.name
),
server_forms AS (
    SELECT forms.* FROM forms INNER JOIN (SELECT DISTINCT name FROM server_names) AS used ON forms.name = used.name
),
-- Which audience means which server; every join is on an equal part of both names.
fitting AS (
    SELECT meant.name AS audience_name, place.name AS server
    FROM audience_forms AS meant
    INNER JOIN server_forms AS place ON meant.site = place.site
    WHERE meant.canon = place.canon
        OR (
            meant.host = place.host AND (
                starts_with(place.canon, meant.canon || '/') OR starts_with(meant.canon, place.canon || '/')
            )
        )
        -- https://acme.example stands for all of its hosts.
        OR ends_with(place.host, '.' || meant.canon)
    UNION
    SELECT meant.name AS audience_name, place.name AS server
    FROM audience_forms AS meant
    INNER JOIN words ON meant.plain = words.word
    INNER JOIN server_forms AS place ON words.name = place.name
    WHERE meant.is_bare
    UNION
    SELECT meant.name AS audience_name, place.name AS server
    FROM server_forms AS place
    INNER JOIN words ON place.plain = words.word
    INNER JOIN audience_forms AS meant ON words.name = meant.name
    WHERE place.is_bare
    UNION
    SELECT meant.name AS audience_name, place.name AS server
    FROM audience_forms AS meant
    INNER JOIN parties AS one ON meant.name = one.name
    INNER JOIN parties AS other ON one.party = other.party
    INNER JOIN server_forms AS place ON other.name = place.name
),
-- Servers that some audience of the tenant means, and audiences that mean some server of it.
known_servers AS (
    SELECT DISTINCT server_names.tenant_id, server_names.name
    FROM server_names
    INNER JOIN fitting ON server_names.name = fitting.server
    INNER JOIN audience_names
        ON server_names.tenant_id = audience_names.tenant_id AND fitting.audience_name = audience_names.name
),
known_audiences AS (
    SELECT DISTINCT audience_names.tenant_id, audience_names.name
    FROM audience_names
    INNER JOIN fitting ON audience_names.name = fitting.audience_name
    INNER JOIN server_names
        ON audience_names.tenant_id = server_names.tenant_id AND fitting.server = server_names.name
),
judged AS (
    SELECT
        items.tenant_id, items.audience, items.server,
        bool_or(fitting.server IS NOT NULL) AS is_meant,
        bool_or(known_audience.name IS NOT NULL) AS names_a_server,
        bool_or(known_server.name IS NOT NULL) AS is_named,
        bool_and(
            (meant.is_address AND place.is_address)
            OR (meant.is_bare AND place.is_bare AND meant.ending <> '' AND meant.ending = place.ending)
        ) AS is_same_form
    FROM items
    INNER JOIN forms AS meant ON items.name = meant.name
    INNER JOIN forms AS place ON items.server = place.name
    LEFT JOIN fitting ON items.name = fitting.audience_name AND items.server = fitting.server
    LEFT JOIN known_audiences AS known_audience
        ON items.tenant_id = known_audience.tenant_id AND items.name = known_audience.name
    LEFT JOIN known_servers AS known_server
        ON items.tenant_id = known_server.tenant_id AND items.server = known_server.name
    GROUP BY items.tenant_id, items.audience, items.server
),
-- An audience that fits no server over many tokens names a platform, not a server.
platforms AS (
    SELECT placed.tenant_id, placed.audience
    FROM placed
    INNER JOIN judged
        ON placed.tenant_id = judged.tenant_id AND placed.audience = judged.audience
        AND placed.server = judged.server
    GROUP BY placed.tenant_id, placed.audience
    HAVING NOT bool_or(judged.names_a_server) AND count(DISTINCT placed.credential_key) >= $platform_tokens_min
),
-- And a server that no audience means, over as many tokens, has none of its own.
unnamed_servers AS (
    SELECT placed.tenant_id, placed.server
    FROM placed
    INNER JOIN judged
        ON placed.tenant_id = judged.tenant_id AND placed.audience = judged.audience
        AND placed.server = judged.server
    GROUP BY placed.tenant_id, placed.server
    HAVING NOT bool_or(judged.is_named) AND count(DISTINCT placed.credential_key) >= $platform_tokens_min
),
strangers AS (
    SELECT judged.tenant_id, judged.audience, judged.server
    FROM judged
    LEFT JOIN platforms
        ON judged.tenant_id = platforms.tenant_id AND judged.audience = platforms.audience
    LEFT JOIN unnamed_servers
        ON judged.tenant_id = unnamed_servers.tenant_id AND judged.server = unnamed_servers.server
    WHERE NOT judged.is_meant
        AND (judged.names_a_server OR judged.is_named OR judged.is_same_form)
        AND platforms.tenant_id IS NULL AND unnamed_servers.tenant_id IS NULL
),
gateways AS (
    SELECT DISTINCT alike.name, period.valid_from, period.valid_to
    FROM reg_identities_as_of AS period
    INNER JOIN reg_names AS names ON period.identity_id = names.identity_id
    INNER JOIN forms AS registered ON names.name = registered.name
    INNER JOIN forms AS alike ON registered.canon = alike.canon
    WHERE period.pass_through
),
-- The server at which one party presented a token calls on with the same token.
travelled AS (
    SELECT tenant_id, credential_key
    FROM placed
    GROUP BY tenant_id, credential_key
    HAVING count(DISTINCT server) > 1 AND count(DISTINCT agent_id) > 1
),
stops AS (
    SELECT DISTINCT placed.tenant_id, placed.credential_key, placed.agent_id, placed.server
    FROM placed
    INNER JOIN travelled
        ON placed.tenant_id = travelled.tenant_id AND placed.credential_key = travelled.credential_key
),
callers AS (
    SELECT tenant_id, credential_key, agent_id, server, agent_id AS name FROM stops
    UNION
    SELECT stops.tenant_id, stops.credential_key, stops.agent_id, stops.server, names.name
    FROM stops
    INNER JOIN reg_names AS own ON stops.agent_id = own.name
    INNER JOIN reg_names AS names ON own.identity_id = names.identity_id
),
-- DISTINCT changes no row: without it the planner pairs all servers before it looks at keys.
inbound_stops AS (
    SELECT DISTINCT stops.tenant_id, stops.credential_key, stops.agent_id, form.canon, form.plain
    FROM stops
    INNER JOIN forms AS form ON stops.server = form.name
),
onward_stops AS (
    SELECT DISTINCT
        caller.tenant_id, caller.credential_key, caller.agent_id, caller.server, form.canon,
        regexp_replace(regexp_replace(regexp_replace(rtrim(lower(caller.name), '/'), '^.*[/:]', ''),
            '^(mcp|api)[-_]', ''), '[-_](mcp|server|api|svc|service)$', '') AS plain_name
    FROM callers AS caller
    INNER JOIN forms AS form ON caller.server = form.name
),
passed_on AS (
    SELECT DISTINCT onward.tenant_id, onward.credential_key, onward.agent_id, onward.server
    FROM onward_stops AS onward
    INNER JOIN inbound_stops AS inbound
        ON onward.tenant_id = inbound.tenant_id AND onward.credential_key = inbound.credential_key
    WHERE inbound.agent_id <> onward.agent_id AND inbound.canon <> onward.canon
        AND list_contains(
            list_append(string_split_regex(inbound.canon, '[./:]+'), inbound.plain), onward.plain_name
        )
),
wrong AS (
    SELECT
        placed.*, place.canon AS server_name, passed_on.agent_id IS NOT NULL AS is_passed_on,
        row_number() OVER (
            PARTITION BY placed.tenant_id, placed.agent_id, place.canon
            ORDER BY placed.event_time, placed.event_uid
        ) AS place
    FROM placed
    INNER JOIN forms AS place ON placed.server = place.name
    LEFT JOIN strangers
        ON placed.tenant_id = strangers.tenant_id AND placed.audience = strangers.audience
        AND placed.server = strangers.server
    LEFT JOIN passed_on
        ON placed.tenant_id = passed_on.tenant_id AND placed.credential_key = passed_on.credential_key
        AND placed.agent_id = passed_on.agent_id AND placed.server = passed_on.server
    LEFT JOIN gateways AS entered
        ON placed.server = entered.name
        AND placed.event_time >= entered.valid_from AND placed.event_time < entered.valid_to
    LEFT JOIN gateways AS left_from
        ON placed.agent_id = left_from.name
        AND placed.event_time >= left_from.valid_from AND placed.event_time < left_from.valid_to
    WHERE (strangers.server IS NOT NULL OR passed_on.server IS NOT NULL)
        AND entered.name IS NULL AND left_from.name IS NULL
),
found AS (
    SELECT
        tenant_id, agent_id, server_name,
        bool_or(is_passed_on) AS is_passed_on,
        min(credential_key) FILTER (WHERE place = 1) AS credential_key,
        count(*) AS calls, count(DISTINCT credential_key) AS credentials,
        list_sort(list_distinct(flatten(list(audience) FILTER (WHERE place <= $evidence_max)))) AS audience,
        list_sort(list_distinct(list(server) FILTER (WHERE place <= $evidence_max))) AS servers_as_logged,
        list_sort(list_distinct(list(tool_name) FILTER (WHERE place <= $evidence_max))) AS tools,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        min(environment) AS environment,
        coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM wrong
    GROUP BY tenant_id, agent_id, server_name
)
SELECT
    found.tenant_id,
    found.agent_id,
    found.server_name AS server,
    found.agent_id AS entity,
    CASE
        WHEN found.is_passed_on
            THEN found.agent_id || ' passed a token that was presented to it on to ' || found.server_name
        ELSE found.server_name || ' accepted a token of ' || found.agent_id || ' that was issued for '
            || coalesce(found.audience[1], 'another server')
    END AS title,
    CASE WHEN found.is_passed_on THEN 'passed_on' ELSE 'audience' END AS variant,
    found.credential_key,
    chain.confidence,
    chain.confidence AS chain_confidence,
    found.action_class,
    found.resource_sensitivity,
    found.environment,
    found.observer,
    held.issuer,
    held.kind,
    held.id AS token_id,
    found.audience,
    found.servers_as_logged,
    found.tools,
    found.calls,
    found.credentials,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(list_concat(found.event_uids, held.event_uids))) AS event_uids
FROM found
INNER JOIN credentials AS held
    ON found.tenant_id = held.tenant_id AND found.credential_key = held.credential_key
LEFT JOIN chains AS chain
    ON found.tenant_id = chain.tenant_id AND found.credential_key = chain.credential_key
