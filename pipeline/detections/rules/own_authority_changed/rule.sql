-- An agent administered the rights of itself, of one it acts for, or of one it delegated to.
--
-- One row per agent and target.  The target is read off the resource: an identity of the chain
-- as a whole part of its name.  An approval that is bound to these very arguments is leave.
WITH administered AS (
    SELECT
        call.tenant_id, call.event_uid, call.event_time, call.credential_key, call.root_key, call.agent_id, call.actor_id,
        call.agent_issuer, call.parent_agent_id, call.subject_id, call.actor_path, call.tool_name, call.operation,
        call.resource, call.outcome, call.environment, call.observer, call.confidence, call.root_principal,
        list_filter(
            [call.resource, call.ext['userName'], call.ext['roleName'], call.ext['target_id'], call.ext['clientId']],
            lambda x: x IS NOT NULL
        ) AS resources
    FROM calls AS call
    WHERE call.action_class = 'admin_iam' AND call.outcome <> 'denied'
        AND NOT (call.outcome <> 'success' AND coalesce(call.decision_effect, 'none') = 'deny')
        AND NOT coalesce(
            call.approval_id IS NOT NULL AND call.approval_args_hash = call.args_hash
            AND (call.approval_expires_at IS NULL OR call.approval_expires_at >= call.event_time),
            false
        )
        -- A person who administers by hand is no agent.
        AND NOT coalesce(
            call.agent_id = call.root_principal AND call.root_kind IN ('human_interactive', 'human_federated'), false
        )
),
parts AS (
    SELECT DISTINCT tenant_id, event_uid, lower(part) AS part
    FROM (
        SELECT tenant_id, event_uid, unnest(list_append(string_split_regex(resource, '[/:#?&=, ]+'), resource)) AS part
        FROM (SELECT tenant_id, event_uid, unnest(resources) AS resource FROM administered) AS one
    ) AS split
    WHERE part <> ''
),
-- Cloud accounts that the target names: the same role name in another account is another role.
accounts AS (
    SELECT tenant_id, event_uid, list(part) AS accounts
    FROM parts
    WHERE regexp_matches(part, '^[0-9]{12}$')
    GROUP BY tenant_id, event_uid
),
-- Whom the chain consists of, above and below the call.
roots AS (
    SELECT DISTINCT tenant_id, root_key FROM administered WHERE root_key IS NOT NULL
),
lineage AS (
    SELECT chain.tenant_id, chain.credential_key, unnest(chain.credential_path) AS above_key
    FROM chains AS chain
    INNER JOIN roots ON chain.tenant_id = roots.tenant_id AND chain.root_key = roots.root_key
),
relatives AS (
    SELECT tenant_id, event_uid, 'itself' AS relation, unnest([agent_id, actor_id]) AS name FROM administered
    UNION
    SELECT call.tenant_id, call.event_uid, 'itself' AS relation, unnest([held.actor_id, held.client_id]) AS name
    FROM administered AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    UNION
    SELECT tenant_id, event_uid, 'above' AS relation,
        unnest(list_append(coalesce(actor_path, CAST([] AS VARCHAR[])), parent_agent_id)) AS name
    FROM administered
    UNION
    SELECT call.tenant_id, call.event_uid, 'above' AS relation, held.client_id AS name
    FROM administered AS call
    INNER JOIN lineage ON call.tenant_id = lineage.tenant_id AND call.credential_key = lineage.credential_key
    INNER JOIN credentials AS held
        ON lineage.tenant_id = held.tenant_id AND lineage.above_key = held.credential_key
    UNION
    SELECT call.tenant_id, call.event_uid, 'below' AS relation, coalesce(held.actor_id, held.client_id) AS name
    FROM administered AS call
    INNER JOIN lineage ON call.tenant_id = lineage.tenant_id AND call.credential_key = lineage.above_key
    INNER JOIN credentials AS held
        ON lineage.tenant_id = held.tenant_id AND lineage.credential_key = held.credential_key
    WHERE lineage.credential_key <> lineage.above_key
        -- A credential that the call itself makes is its result, not one it had delegated to.
        AND coalesce(held.issued_at, held.first_seen) < call.event_time
),
nearest AS (
    SELECT tenant_id, event_uid, name, max(relation) AS relation
    FROM relatives
    WHERE name IS NOT NULL
    GROUP BY tenant_id, event_uid, name
),
all_names AS (
    SELECT tenant_id, event_uid, relation, name, name AS known_as FROM nearest
    UNION
    SELECT nearest.tenant_id, nearest.event_uid, nearest.relation, nearest.name, other.name AS known_as
    FROM nearest
    INNER JOIN reg_names AS one ON nearest.name = one.name
    INNER JOIN reg_names AS other ON one.identity_id = other.identity_id
),
targets AS (
    SELECT named.tenant_id, named.event_uid, min(named.name) AS target, max(named.relation) AS relation
    FROM all_names AS named
    INNER JOIN parts
        ON named.tenant_id = parts.tenant_id AND named.event_uid = parts.event_uid
        AND (
            parts.part = lower(named.known_as)
            OR parts.part = lower(regexp_extract(named.known_as, '[^/:]+$'))
            -- A session of a role changes the role.
            OR parts.part = lower(regexp_extract(named.known_as, ':assumed-role/([^/]+)', 1))
        )
    LEFT JOIN accounts ON named.tenant_id = accounts.tenant_id AND named.event_uid = accounts.event_uid
    WHERE accounts.event_uid IS NULL
        OR NOT regexp_matches(named.known_as, '^arn:[a-z-]+:(sts|iam)::[0-9]{12}:')
        OR list_contains(accounts.accounts, regexp_extract(named.known_as, '::([0-9]{12}):', 1))
    GROUP BY named.tenant_id, named.event_uid
),
changed AS (
    SELECT administered.*, targets.target, targets.relation
    FROM administered
    INNER JOIN targets
        ON administered.tenant_id = targets.tenant_id AND administered.event_uid = targets.event_uid
),
-- What the target held before, and what it got within the day.
target_names AS (
    SELECT DISTINCT changed.tenant_id, changed.target, changed.target AS name FROM changed
    UNION
    SELECT DISTINCT changed.tenant_id, changed.target, other.name
    FROM changed
    INNER JOIN reg_names AS one ON changed.target = one.name
    INNER JOIN reg_names AS other ON one.identity_id = other.identity_id
),
grants AS (
    SELECT DISTINCT names.tenant_id, names.target, held.credential_key, held.scopes, held.event_uids,
        coalesce(held.issued_at, held.first_seen) AS made_at
    FROM target_names AS names
    INNER JOIN credentials AS held
        ON names.tenant_id = held.tenant_id AND coalesce(held.actor_id, held.client_id, held.subject_id) = names.name
    WHERE held.seen_issued AND held.scope_known
),
before AS (
    SELECT changed.tenant_id, changed.event_uid, list_distinct(flatten(list(grants.scopes))) AS scopes
    FROM changed
    INNER JOIN grants
        ON changed.tenant_id = grants.tenant_id AND changed.target = grants.target
        AND grants.made_at <= changed.event_time
    GROUP BY changed.tenant_id, changed.event_uid
),
gained AS (
    SELECT changed.tenant_id, changed.event_uid,
        list_distinct(flatten(list(list_filter(grants.scopes, lambda x: NOT list_contains(before.scopes, x))))) AS scopes,
        list_distinct(flatten(list(grants.event_uids) FILTER (
            WHERE array_length(list_filter(grants.scopes, lambda x: NOT list_contains(before.scopes, x))) > 0
        ))) AS event_uids
    FROM changed
    INNER JOIN before
        ON changed.tenant_id = before.tenant_id AND changed.event_uid = before.event_uid
    INNER JOIN grants
        ON changed.tenant_id = grants.tenant_id AND changed.target = grants.target
        AND grants.made_at > changed.event_time
        AND epoch(grants.made_at) - epoch(changed.event_time) <= $gain_window_s
    WHERE changed.outcome = 'success'
    GROUP BY changed.tenant_id, changed.event_uid
),
ranked AS (
    SELECT
        changed.*,
        coalesce(gained.scopes, CAST([] AS VARCHAR[])) AS gained_scopes,
        list_concat(
            coalesce(gained.event_uids, CAST([] AS VARCHAR[])), coalesce(held.event_uids, CAST([] AS VARCHAR[]))
        ) AS more_events,
        row_number() OVER (
            PARTITION BY changed.tenant_id, changed.agent_id, changed.target ORDER BY changed.event_time, changed.event_uid
        ) AS rank
    FROM changed
    LEFT JOIN gained ON changed.tenant_id = gained.tenant_id AND changed.event_uid = gained.event_uid
    LEFT JOIN credentials AS held
        ON changed.tenant_id = held.tenant_id AND changed.credential_key = held.credential_key
)
SELECT
    tenant_id,
    agent_id,
    target,
    agent_id AS entity,
    agent_id || ' changed the rights of ' || CASE max(relation)
        WHEN 'itself' THEN 'itself' WHEN 'below' THEN target || ', to whom it delegated' ELSE target || ', for whom it acts' END
        AS title,
    max(CASE WHEN array_length(gained_scopes) > 0 THEN 5 WHEN outcome = 'success' THEN 4 ELSE 3 END) AS severity,
    max(coalesce(confidence, 1.0)) AS confidence,
    max(coalesce(confidence, 1.0)) AS chain_confidence,
    min(credential_key) FILTER (WHERE rank = 1) AS credential_key,
    CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
        AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    max(relation) AS relation,
    list_sort(list_distinct(list(tool_name) FILTER (WHERE rank <= $evidence_max))) AS tools,
    list_sort(list_distinct(flatten(list(resources) FILTER (WHERE rank <= $evidence_max)))) AS resources,
    list_sort(list_distinct(flatten(list(gained_scopes)))) AS gained_scopes,
    list_sort(list_distinct(list(root_principal) FILTER (WHERE root_principal IS NOT NULL AND rank <= $evidence_max)))
        AS principals,
    count(*) AS calls,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    list_sort(list_distinct(list_concat(
        list(event_uid) FILTER (WHERE rank <= $evidence_max),
        flatten(list(more_events) FILTER (WHERE rank <= $evidence_max))
    ))) AS event_uids
FROM ranked
GROUP BY tenant_id, agent_id, target
