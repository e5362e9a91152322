-- An agent used its own standing credential, in work that a person had delegated to it, for
-- something that the delegation does not cover.
--
-- One row per agent, standing principal and tool.  A call is held against the delegated
-- credentials of the same agent in the same transaction, trace or task; else of the same
-- session, or the same instance within minutes; else of others in the same transaction, trace or
-- task.  Unknown scopes, another audience and scopes that nobody required say nothing.
WITH own_calls AS (
    SELECT
        call.tenant_id, call.event_uid, call.event_time, call.call_key, call.credential_key, call.root_key,
        call.root_principal, call.root_kind, call.agent_id, call.agent_instance, call.agent_issuer,
        call.parent_agent_id, call.txn_id, call.trace_id, call.task_id, call.session_id,
        call.tool_name, call.tool_server, call.operation, call.resource, call.outcome, call.action_class,
        call.resource_sensitivity, call.environment, call.observer, call.confidence,
        call.presented_audience,
        list_sort(list_distinct(list_filter(
            call.required_scopes, lambda x: x NOT IN ('openid', 'profile', 'email', 'address', 'phone')
        ))) AS needs
    FROM calls AS call
    WHERE call.root_kind IN ('client_credentials', 'static_secret', 'workload_attested')
        AND array_length(call.required_scopes) > 0
        AND call.outcome <> 'denied'
        AND NOT (call.outcome <> 'success' AND coalesce(call.decision_effect, 'none') = 'deny')
),
-- Calls that the class may always make with its own credential, and gateways.
excused AS (
    SELECT DISTINCT own.tenant_id, own.event_uid
    FROM own_calls AS own
    INNER JOIN reg_names AS named
        ON own.agent_id = named.name
        AND (named.issuer IS NULL OR own.agent_issuer IS NULL OR named.issuer = own.agent_issuer)
    INNER JOIN reg_identities_as_of AS identity
        ON named.identity_id = identity.identity_id
        AND own.event_time >= identity.valid_from AND own.event_time < identity.valid_to
    WHERE identity.pass_through
        OR list_contains(coalesce(identity.ambient_tools, CAST([] AS VARCHAR[])), own.tool_name)
        OR list_contains(coalesce(identity.ambient_tools, CAST([] AS VARCHAR[])), own.tool_server)
),
standing AS (
    SELECT own.*, coalesce(named.identity_id, own.agent_id) AS agent
    FROM own_calls AS own
    LEFT JOIN (SELECT name, min(identity_id) AS identity_id FROM reg_names GROUP BY name) AS named
        ON own.agent_id = named.name
    LEFT JOIN excused ON own.tenant_id = excused.tenant_id AND own.event_uid = excused.event_uid
    WHERE excused.event_uid IS NULL AND array_length(own.needs) > 0
),
marks AS (
    SELECT tenant_id, 'txn' AS mark, txn_id AS place FROM standing WHERE txn_id IS NOT NULL
    UNION
    SELECT tenant_id, 'trace' AS mark, trace_id AS place FROM standing WHERE trace_id IS NOT NULL
    UNION
    SELECT tenant_id, 'task' AS mark, task_id AS place FROM standing WHERE task_id IS NOT NULL
    UNION
    SELECT tenant_id, 'session' AS mark, session_id AS place FROM standing WHERE session_id IS NOT NULL
),
instances AS (
    SELECT DISTINCT tenant_id, agent_instance FROM standing WHERE agent_instance IS NOT NULL
),
delegated_calls AS (
    SELECT
        tenant_id, event_uid, event_time, credential_key, agent_id AS holder, agent_instance,
        txn_id, trace_id, task_id, session_id
    FROM calls
    WHERE root_kind IN ('human_interactive', 'human_federated') AND credential_key IS NOT NULL
),
-- Grouped, so that the events meet their credentials before these meet their chains.
granted AS (
    SELECT
        event.tenant_id, event.event_uid, min(event.event_time) AS event_time,
        min(alias.credential_key) AS credential_key, min(coalesce(event.actor_id, event.client_id)) AS holder,
        min(event.txn_id) AS txn_id, min(event.trace_id) AS trace_id, min(event.task_id) AS task_id,
        min(event.session_id) AS session_id
    FROM token_events AS event
    INNER JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.credential_id = alias.id
        AND event.credential_kind = alias.kind AND event.credential_issuer IS NOT DISTINCT FROM alias.issuer
    WHERE event.op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate', 'use')
        AND event.outcome = 'success'
        AND coalesce(event.txn_id, event.trace_id, event.task_id, event.session_id) IS NOT NULL
    GROUP BY event.tenant_id, event.event_uid
),
issued AS (
    SELECT
        granted.tenant_id, granted.event_uid, granted.event_time, granted.credential_key, granted.holder,
        CAST(NULL AS VARCHAR) AS agent_instance,
        granted.txn_id, granted.trace_id, granted.task_id, granted.session_id
    FROM granted
    INNER JOIN chains AS chain
        ON granted.tenant_id = chain.tenant_id AND granted.credential_key = chain.credential_key
    WHERE chain.root_kind IN ('human_interactive', 'human_federated')
),
holdings AS (
    SELECT * FROM delegated_calls
    UNION ALL
    SELECT * FROM issued
),
placed AS (
    SELECT held.tenant_id, marks.mark, marks.place, held.holder, held.credential_key, held.event_uid, held.event_time
    FROM holdings AS held
    INNER JOIN marks ON held.tenant_id = marks.tenant_id AND marks.mark = 'txn' AND held.txn_id = marks.place
    UNION ALL
    SELECT held.tenant_id, marks.mark, marks.place, held.holder, held.credential_key, held.event_uid, held.event_time
    FROM holdings AS held
    INNER JOIN marks ON held.tenant_id = marks.tenant_id AND marks.mark = 'trace' AND held.trace_id = marks.place
    UNION ALL
    SELECT held.tenant_id, marks.mark, marks.place, held.holder, held.credential_key, held.event_uid, held.event_time
    FROM holdings AS held
    INNER JOIN marks ON held.tenant_id = marks.tenant_id AND marks.mark = 'task' AND held.task_id = marks.place
    UNION ALL
    SELECT held.tenant_id, marks.mark, marks.place, held.holder, held.credential_key, held.event_uid, held.event_time
    FROM holdings AS held
    INNER JOIN marks ON held.tenant_id = marks.tenant_id AND marks.mark = 'session' AND held.session_id = marks.place
),
held_in AS (
    SELECT
        placed.tenant_id, placed.mark, placed.place, placed.credential_key,
        placed.holder, min(coalesce(named.identity_id, placed.holder)) AS agent, arg_min(placed.event_uid, placed.event_time) AS proof
    FROM placed
    LEFT JOIN reg_names AS named ON placed.holder = named.name
    GROUP BY placed.tenant_id, placed.mark, placed.place, placed.credential_key, placed.holder
),
-- What one instance held, in slices of the window.
held_by_instance AS (
    SELECT
        held.tenant_id, held.agent_instance, held.holder, held.credential_key,
        CAST(floor(epoch(held.event_time) / $instance_window_s) AS BIGINT) AS slice,
        min(held.event_time) AS from_time, max(held.event_time) AS to_time, arg_min(held.event_uid, held.event_time) AS proof
    FROM delegated_calls AS held
    INNER JOIN instances
        ON held.tenant_id = instances.tenant_id AND held.agent_instance = instances.agent_instance
    GROUP BY held.tenant_id, held.agent_instance, held.holder, held.credential_key,
        CAST(floor(epoch(held.event_time) / $instance_window_s) AS BIGINT)
),
standing_marks AS (
    SELECT event_uid, 'txn' AS mark, txn_id AS place FROM standing WHERE txn_id IS NOT NULL
    UNION ALL
    SELECT event_uid, 'trace' AS mark, trace_id AS place FROM standing WHERE trace_id IS NOT NULL
    UNION ALL
    SELECT event_uid, 'task' AS mark, task_id AS place FROM standing WHERE task_id IS NOT NULL
    UNION ALL
    SELECT event_uid, 'session' AS mark, session_id AS place FROM standing WHERE session_id IS NOT NULL
),
standing_slices AS (
    SELECT
        tenant_id, event_uid, event_time, agent_instance, agent_id,
        unnest([
            CAST(floor(epoch(event_time) / $instance_window_s) AS BIGINT) - 1,
            CAST(floor(epoch(event_time) / $instance_window_s) AS BIGINT),
            CAST(floor(epoch(event_time) / $instance_window_s) AS BIGINT) + 1
        ]) AS slice
    FROM standing
    WHERE agent_instance IS NOT NULL
),
met AS (
    SELECT
        own.tenant_id, own.event_uid, held.credential_key AS delegated_key, held.mark AS met_by, held.proof,
        CASE
            WHEN (held.agent = own.agent OR held.holder = coalesce(own.parent_agent_id, '')) AND held.mark <> 'session' THEN 1
            WHEN held.agent = own.agent THEN 2
            WHEN held.mark <> 'session' THEN 3
        END AS nearness
    FROM standing AS own
    INNER JOIN standing_marks AS marked ON own.event_uid = marked.event_uid
    INNER JOIN held_in AS held
        ON own.tenant_id = held.tenant_id AND marked.mark = held.mark AND marked.place = held.place
    UNION ALL
    SELECT
        own.tenant_id, own.event_uid, held.credential_key AS delegated_key, 'instance' AS met_by, held.proof,
        2 AS nearness
    FROM standing_slices AS own
    INNER JOIN held_by_instance AS held
        ON own.tenant_id = held.tenant_id AND own.agent_instance = held.agent_instance
        AND own.slice = held.slice AND own.agent_id = held.holder
    WHERE greatest(
            epoch(held.from_time) - epoch(own.event_time), epoch(own.event_time) - epoch(held.to_time), 0
        ) <= $instance_window_s
),
active AS (
    SELECT
        met.tenant_id, met.event_uid, met.delegated_key, met.nearness, min(met.met_by) AS met_by,
        list_distinct(list(met.proof)) AS proofs,
        min(chain.confidence) AS delegated_confidence, min(chain.root_principal) AS principal,
        bool_and(token.scope_known AND coalesce(token.scope_dialect, 'exact') NOT IN ('aws', 'policy')
            AND NOT coalesce(issuer.has_hierarchy, false)) AS is_comparable,
        any_value(token.scopes) AS scopes,
        any_value(own.needs) AS needs
    FROM met
    INNER JOIN standing AS own ON met.event_uid = own.event_uid
    INNER JOIN chains AS chain
        ON met.tenant_id = chain.tenant_id AND met.delegated_key = chain.credential_key
    INNER JOIN credentials AS token
        ON met.tenant_id = token.tenant_id AND met.delegated_key = token.credential_key
    INNER JOIN credentials AS used
        ON own.tenant_id = used.tenant_id AND own.credential_key = used.credential_key
    LEFT JOIN reg_issuers AS issuer ON token.issuer = issuer.issuer
    WHERE met.nearness IS NOT NULL
        -- It was alive when the own credential was used.
        AND epoch(coalesce(token.issued_at, token.first_seen)) - epoch(own.event_time) <= $skew_cross_s
        AND (chain.effective_expires_at IS NULL OR chain.effective_expires_at > own.event_time)
        AND (token.revoked_at IS NULL OR token.revoked_at > own.event_time)
        -- Scope names of another audience mean other things.
        AND NOT (
            array_length(token.audience) > 0
            AND array_length(list_concat(used.audience, coalesce(own.presented_audience, CAST([] AS VARCHAR[])))) > 0
            AND array_length(list_filter(
                list_concat(used.audience, coalesce(own.presented_audience, CAST([] AS VARCHAR[]))),
                lambda x: list_contains(token.audience, x)
            )) = 0
        )
        -- What another agent holds is compared only where both speak of the same server.
        AND (met.nearness < 3 OR (
            token.issuer IS NOT DISTINCT FROM used.issuer
            AND (array_length(token.audience) > 0) = (array_length(used.audience) > 0)
        ))
    GROUP BY met.tenant_id, met.event_uid, met.delegated_key, met.nearness
),
nearest AS (
    SELECT tenant_id, event_uid, min(nearness) AS nearness FROM active GROUP BY tenant_id, event_uid
),
-- What is implied by what, three steps deep: hierarchies in use have no more.
implied AS (
    SELECT scope, implies FROM reg_scope_implications
    UNION
    SELECT one.scope, two.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    UNION
    SELECT one.scope, three.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    INNER JOIN reg_scope_implications AS three ON two.implies = three.scope
),
-- Each distinct question is answered once, however many calls ask it.
questions AS (
    SELECT DISTINCT scopes, needs FROM active WHERE is_comparable
),
met_needs AS (
    SELECT DISTINCT question.scopes, question.needs, question.need
    FROM (
        SELECT scopes, needs, need, unnest(scopes) AS granted
        FROM (SELECT scopes, needs, unnest(needs) AS need FROM questions) AS asked
    ) AS question
    LEFT JOIN implied ON question.granted = implied.scope AND question.need = implied.implies
    WHERE question.granted = question.need
        OR question.granted = '*'
        OR implied.implies IS NOT NULL
        OR (
            (ends_with(question.granted, '.*') OR ends_with(question.granted, ':*') OR ends_with(question.granted, '/*'))
            AND starts_with(question.need, left(question.granted, length(question.granted) - 1))
        )
),
answered AS (
    SELECT scopes, needs, count(*) AS covered FROM met_needs GROUP BY scopes, needs
),
judged AS (
    SELECT
        active.*,
        -- What cannot be compared may cover it.
        NOT active.is_comparable OR coalesce(answered.covered, 0) >= array_length(active.needs) AS is_covered
    FROM active
    INNER JOIN nearest
        ON active.tenant_id = nearest.tenant_id AND active.event_uid = nearest.event_uid
        AND active.nearness = nearest.nearness
    LEFT JOIN answered ON active.scopes = answered.scopes AND active.needs = answered.needs
),
uncovered AS (
    SELECT
        tenant_id, event_uid, min(nearness) AS nearness, min(met_by) AS met_by,
        min(delegated_confidence) AS delegated_confidence,
        list_distinct(list(principal)) AS principals,
        list_distinct(flatten(list(scopes))) AS delegated_scopes,
        list_distinct(list(delegated_key)) AS delegated_keys,
        list_distinct(flatten(list(proofs))) AS proofs
    FROM judged
    GROUP BY tenant_id, event_uid
    HAVING NOT bool_or(is_covered)
),
confused AS (
    SELECT
        own.*, uncovered.nearness, uncovered.met_by, uncovered.principals, uncovered.delegated_scopes,
        uncovered.delegated_keys, uncovered.proofs,
        least(
            own.confidence, uncovered.delegated_confidence,
            CASE uncovered.nearness WHEN 1 THEN 1.0 WHEN 2 THEN 0.85 ELSE 0.75 END
        ) AS sure,
        row_number() OVER (
            PARTITION BY own.tenant_id, own.agent, coalesce(own.root_principal, own.root_key), own.tool_name
            ORDER BY own.event_time, own.event_uid
        ) AS rank
    FROM standing AS own
    INNER JOIN uncovered
        ON own.tenant_id = uncovered.tenant_id AND own.event_uid = uncovered.event_uid
),
evidence AS (
    SELECT confused.tenant_id, confused.agent, coalesce(confused.root_principal, confused.root_key) AS standing_principal,
        confused.tool_name,
        list_distinct(flatten(list(token.event_uids))) AS event_uids
    FROM (
        SELECT tenant_id, agent, root_principal, root_key, tool_name,
            unnest(list_append(delegated_keys, credential_key)) AS token_key
        FROM confused
        WHERE rank <= $evidence_max
    ) AS confused
    INNER JOIN credentials AS token
        ON confused.tenant_id = token.tenant_id AND confused.token_key = token.credential_key
    GROUP BY confused.tenant_id, confused.agent, coalesce(confused.root_principal, confused.root_key), confused.tool_name
),
found AS (
    SELECT
        tenant_id, agent, coalesce(root_principal, root_key) AS standing_principal, tool_name,
        min(agent_id) AS agent_id, count(*) AS calls,
        max(sure) AS sure,
        max(CASE WHEN outcome = 'success' THEN 4 ELSE 3 END) AS severity,
        min(root_kind) AS standing_kind,
        min(credential_key) FILTER (WHERE rank = 1) AS credential_key,
        list_sort(list_distinct(list(met_by))) AS met_by,
        list_sort(list_distinct(flatten(list(principals) FILTER (WHERE rank <= $evidence_max)))) AS principals,
        list_sort(list_distinct(flatten(list(needs) FILTER (WHERE rank <= $evidence_max)))) AS required_scopes,
        list_sort(list_distinct(flatten(list(delegated_scopes) FILTER (WHERE rank <= $evidence_max)))) AS delegated_scopes,
        list_sort(list_distinct(list(resource) FILTER (WHERE resource IS NOT NULL AND rank <= $evidence_max))) AS resources,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
            AS environment,
        coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_distinct(list_concat(
            list(event_uid) FILTER (WHERE rank <= $evidence_max),
            flatten(list(proofs) FILTER (WHERE rank <= $evidence_max))
        )) AS event_uids
    FROM confused
    GROUP BY tenant_id, agent, coalesce(root_principal, root_key), tool_name
)
SELECT
    found.tenant_id,
    found.agent,
    found.standing_principal,
    found.tool_name,
    found.agent_id AS entity,
    found.agent_id || ' used its own authority for ' || found.tool_name || ' in work delegated by '
        || coalesce(list_extract(found.principals, 1), 'a person') AS title,
    found.severity,
    found.sure AS confidence,
    found.sure AS chain_confidence,
    found.credential_key,
    found.action_class,
    found.resource_sensitivity,
    found.environment,
    found.observer,
    found.standing_kind,
    found.principals,
    found.required_scopes,
    found.delegated_scopes,
    found.resources,
    found.met_by,
    found.calls,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(list_concat(
        found.event_uids, coalesce(evidence.event_uids, CAST([] AS VARCHAR[]))
    ))) AS event_uids
FROM found
LEFT JOIN evidence
    ON found.tenant_id = evidence.tenant_id AND found.agent = evidence.agent
    AND found.standing_principal = evidence.standing_principal AND found.tool_name = evidence.tool_name
