-- Work that a person asked for went on under a static or shared account that names nobody.
--
-- One row per caller, account, resource and week.  The person's hop and the nameless one share
-- a trace or transaction and lie within window_s of each other.  A registered exception, an
-- ambient tool or a delegation record explains the hop.
WITH shared_keys AS (
    SELECT tenant_id, credential_key
    FROM calls
    WHERE credential_key IS NOT NULL AND root_kind = 'client_credentials'
    GROUP BY tenant_id, credential_key
    HAVING count(DISTINCT agent_id) > 1
),
service_accounts AS (
    SELECT DISTINCT names.name
    FROM reg_names AS names
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
    WHERE identity.kind = 'service_account'
),
nameless AS (
    SELECT
        call.tenant_id, call.event_uid, call.call_key, call.event_time, call.trace_id, call.txn_id,
        call.span_id, call.parent_span_id, call.agent_id, call.agent_issuer, call.source, call.observer,
        call.environment, call.tool_name, call.tool_server, call.operation, call.resource,
        call.action_class, call.resource_sensitivity, call.required_scopes, call.credential_key,
        coalesce(held.kind, call.credential_kind) AS credential_kind,
        coalesce(held.id, call.credential_id) AS account_credential,
        coalesce(
            call.subject_id, by_name.name,
            CASE WHEN held.subject_kind IN ('service_account', 'workload', 'client') THEN held.subject_id END,
            held.id, call.credential_id, call.actor_id, call.agent_id
        ) AS service_account,
        coalesce(call.tool_server, call.resource, call.tool_name) AS reached,
        coalesce(held.is_static, false) OR coalesce(call.root_kind = 'static_secret', false)
            OR coalesce(call.credential_kind IN ('api_key_id', 'secret_version'), false)
            OR coalesce(call.credential_kind = 'access_key_id' AND NOT starts_with(call.credential_id, 'ASIA'), false)
            AS is_static
    FROM calls AS call
    LEFT JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    LEFT JOIN shared_keys AS shared
        ON call.tenant_id = shared.tenant_id AND call.credential_key = shared.credential_key
    LEFT JOIN service_accounts AS by_subject ON call.subject_id = by_subject.name
    -- A source without agents names the account itself as the one who acts.
    LEFT JOIN service_accounts AS by_name ON coalesce(call.actor_id, call.agent_id) = by_name.name
    WHERE coalesce(call.trace_id, call.txn_id) IS NOT NULL
        AND (call.credential_id IS NOT NULL OR call.subject_kind = 'service_account' OR by_subject.name IS NOT NULL OR by_name.name IS NOT NULL)
        AND call.outcome <> 'denied'
        AND (
            call.subject_id IS NULL OR call.subject_id = call.agent_id OR call.subject_id = call.actor_id
            OR coalesce(call.subject_kind, 'unknown') IN ('service_account', 'client', 'workload')
            OR by_subject.name IS NOT NULL
        )
        AND coalesce(call.subject_kind, 'unknown') NOT IN ('human', 'agent_user')
        AND array_length(coalesce(call.act_chain, CAST([] AS STRUCT(issuer VARCHAR, subject VARCHAR)[]))) = 0
        AND call.delegation_record_id IS NULL
        AND NOT coalesce(call.root_kind IN ('human_interactive', 'human_federated'), false)
        AND (
            coalesce(held.is_static, false)
            OR coalesce(call.root_kind = 'static_secret', false)
            OR call.credential_kind IN ('api_key_id', 'secret_version')
            OR (call.credential_kind = 'access_key_id' AND NOT starts_with(call.credential_id, 'ASIA'))
            OR coalesce(call.subject_kind = 'service_account', false)
            OR coalesce(held.subject_kind = 'service_account', false)
            OR (call.tool_protocol = 'db' AND call.credential_kind = 'local')
            OR shared.credential_key IS NOT NULL OR by_subject.name IS NOT NULL OR by_name.name IS NOT NULL
        )
),
meeting_points AS (
    SELECT tenant_id, 'trace ' || trace_id AS meeting FROM nameless WHERE trace_id IS NOT NULL
    UNION
    SELECT tenant_id, 'txn ' || txn_id AS meeting FROM nameless WHERE txn_id IS NOT NULL
),
-- Hops that a person stands behind: calls, and credentials made for a delegation.
human_calls AS (
    SELECT
        tenant_id, event_uid, call_key, event_time, trace_id, txn_id, span_id, agent_id,
        coalesce(root_principal, subject_id) AS principal, credential_key, confidence
    FROM calls
    WHERE coalesce(trace_id, txn_id) IS NOT NULL
        AND (
            (root_kind IN ('human_interactive', 'human_federated') AND confidence >= $chain_confidence_min)
            -- The enforcement point named the person, also where the chain is not known.
            OR (subject_kind = 'human' AND observer <> 'agent_runtime')
        )
),
human_credentials AS (
    SELECT held.tenant_id, held.credential_key, chain.root_principal, chain.confidence, made.event_uid
    FROM chains AS chain
    INNER JOIN credentials AS held
        ON chain.tenant_id = held.tenant_id AND chain.credential_key = held.credential_key
    CROSS JOIN unnest(held.event_uids) AS made(event_uid)
    WHERE chain.root_kind IN ('human_interactive', 'human_federated')
        AND chain.confidence >= $chain_confidence_min
),
human_tokens AS (
    SELECT
        event.tenant_id, event.event_uid, event.event_uid AS call_key, event.event_time, event.trace_id,
        event.txn_id, event.span_id, coalesce(event.actor_id, event.client_id) AS agent_id,
        coalesce(made.root_principal, event.subject_id) AS principal, made.credential_key, made.confidence
    FROM token_events AS event
    INNER JOIN human_credentials AS made
        ON event.tenant_id = made.tenant_id AND event.event_uid = made.event_uid
    WHERE coalesce(event.trace_id, event.txn_id) IS NOT NULL
        AND event.op IN ('issue', 'exchange', 'refresh', 'assume', 'delegate') AND event.outcome = 'success'
),
human_hops AS (
    SELECT hop.*, 'trace ' || hop.trace_id AS meeting FROM human_calls AS hop WHERE hop.trace_id IS NOT NULL
    UNION ALL
    SELECT hop.*, 'txn ' || hop.txn_id AS meeting FROM human_calls AS hop WHERE hop.txn_id IS NOT NULL
    UNION ALL
    SELECT hop.*, 'trace ' || hop.trace_id AS meeting FROM human_tokens AS hop WHERE hop.trace_id IS NOT NULL
    UNION ALL
    SELECT hop.*, 'txn ' || hop.txn_id AS meeting FROM human_tokens AS hop WHERE hop.txn_id IS NOT NULL
),
near_hops AS (
    SELECT hop.*
    FROM human_hops AS hop
    INNER JOIN meeting_points AS point
        ON hop.tenant_id = point.tenant_id AND hop.meeting = point.meeting
),
nameless_hops AS (
    SELECT event_uid AS nameless_uid, tenant_id, 'trace ' || trace_id AS meeting FROM nameless WHERE trace_id IS NOT NULL
    UNION ALL
    SELECT event_uid AS nameless_uid, tenant_id, 'txn ' || txn_id AS meeting FROM nameless WHERE txn_id IS NOT NULL
),
joined AS (
    SELECT
        later.*, earlier.event_uid AS human_uid, earlier.event_time AS human_time, earlier.principal,
        earlier.agent_id AS human_agent, earlier.confidence AS human_confidence, nameless_hops.meeting,
        coalesce(later.parent_span_id = earlier.span_id, false) AS is_child_span,
        row_number() OVER (
            PARTITION BY later.tenant_id, later.event_uid
            ORDER BY
                CASE WHEN later.parent_span_id = earlier.span_id THEN 0 ELSE 1 END,
                earlier.event_time DESC, earlier.event_uid
        ) AS nearness
    FROM nameless AS later
    INNER JOIN nameless_hops
        ON later.tenant_id = nameless_hops.tenant_id AND later.event_uid = nameless_hops.nameless_uid
    INNER JOIN near_hops AS earlier
        ON nameless_hops.tenant_id = earlier.tenant_id AND nameless_hops.meeting = earlier.meeting
    WHERE earlier.call_key <> later.call_key
        AND epoch(later.event_time) - epoch(earlier.event_time) <= $window_s
        AND (
            epoch(later.event_time) >= epoch(earlier.event_time)
            -- A caller's record may be written when it ends, after those of what it called.
            OR (
                later.parent_span_id = earlier.span_id
                AND epoch(earlier.event_time) - epoch(later.event_time) <= $window_s
            )
        )
),
named AS (
    SELECT joined.tenant_id, joined.event_uid, names.identity_id, joined.event_time, joined.tool_name, joined.tool_server,
        joined.account_credential
    FROM joined
    INNER JOIN reg_names AS names
        ON joined.agent_id = names.name
        AND (names.issuer IS NULL OR joined.agent_issuer IS NULL OR names.issuer = joined.agent_issuer)
    WHERE joined.nearness = 1
    UNION
    SELECT joined.tenant_id, joined.event_uid, names.identity_id, joined.event_time, joined.tool_name, joined.tool_server,
        joined.account_credential
    FROM joined
    INNER JOIN reg_names AS names ON joined.service_account = names.name
    WHERE joined.nearness = 1
    UNION
    SELECT joined.tenant_id, joined.event_uid, own.identity_id, joined.event_time, joined.tool_name, joined.tool_server,
        joined.account_credential
    FROM joined
    INNER JOIN reg_credential_ids AS own
        ON joined.account_credential = own.id AND joined.credential_kind = own.kind
    WHERE joined.nearness = 1
),
explained AS (
    SELECT DISTINCT named.tenant_id, named.event_uid
    FROM named
    INNER JOIN reg_identities_as_of AS period
        ON named.identity_id = period.identity_id
        AND named.event_time >= period.valid_from AND named.event_time < period.valid_to
    WHERE period.static_secret_exception_until > named.event_time
        OR list_contains(period.ambient_tools, named.tool_name)
        OR list_contains(period.ambient_tools, named.tool_server)
    UNION
    SELECT named.tenant_id, named.event_uid
    FROM named
    INNER JOIN reg_static_exceptions AS exception
        ON named.identity_id = exception.identity_id
        AND (exception.secret_id IS NULL OR exception.secret_id = named.account_credential)
        AND named.event_time >= exception.since AND named.event_time < exception.until
),
rated AS (
    SELECT joined.tenant_id, joined.event_uid, max(catalogue.tier) AS tier
    FROM joined
    CROSS JOIN unnest(joined.required_scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue ON item.scope = catalogue.scope
    WHERE joined.nearness = 1
    GROUP BY joined.tenant_id, joined.event_uid
),
collapsed AS (
    SELECT
        joined.*, greatest(coalesce(joined.resource_sensitivity, 0), coalesce(rated.tier, 0)) AS weight,
        CAST(date_trunc('week', joined.event_time) AS DATE) AS week,
        row_number() OVER (
            PARTITION BY
                joined.tenant_id, joined.agent_id, joined.service_account, joined.reached,
                date_trunc('week', joined.event_time)
            ORDER BY joined.event_time, joined.event_uid
        ) AS place
    FROM joined
    LEFT JOIN explained
        ON joined.tenant_id = explained.tenant_id AND joined.event_uid = explained.event_uid
    LEFT JOIN rated ON joined.tenant_id = rated.tenant_id AND joined.event_uid = rated.event_uid
    WHERE joined.nearness = 1 AND explained.event_uid IS NULL
)
SELECT
    tenant_id,
    agent_id AS caller,
    service_account,
    reached,
    week,
    agent_id AS entity,
    'What ' || coalesce(min(principal), 'a person') || ' asked for reached ' || reached || ' as '
        || service_account || ', which names nobody' AS title,
    CASE WHEN bool_or(is_child_span) THEN 0.95 ELSE $trace_confidence END AS confidence,
    max(action_class) FILTER (
        WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
    ) AS action_class,
    -- A scope of tier 3 weighs as a resource of that sensitivity.
    max(weight) AS resource_sensitivity,
    min(environment) AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    bool_or(is_static) AS is_static,
    min(credential_kind) AS credential_kind,
    count(*) AS calls,
    list_sort(list_distinct(list(principal) FILTER (WHERE place <= $evidence_max))) AS principals,
    list_sort(list_distinct(list(human_agent) FILTER (WHERE place <= $evidence_max))) AS asked_through,
    list_sort(list_distinct(list(tool_name) FILTER (WHERE place <= $evidence_max))) AS tools,
    list_sort(list_distinct(list(meeting) FILTER (WHERE place <= $evidence_max))) AS shared_by,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    list_sort(list_distinct(list_concat(
        list(event_uid) FILTER (WHERE place <= $evidence_max),
        list(human_uid) FILTER (WHERE place <= $evidence_max)
    ))) AS event_uids
FROM collapsed
GROUP BY tenant_id, agent_id, service_account, reached, week
