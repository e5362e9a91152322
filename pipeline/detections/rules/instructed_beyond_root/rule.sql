-- Content that the agent read, not its user, led to authority or a call outside the root grant.
--
-- One row per credential or call that such content triggered.  A denied call is the control
-- working; an unknown comparison says nothing.
WITH instructed AS (
    SELECT
        held.tenant_id, held.credential_key, held.instruction_source, held.actor_id, held.client_id,
        held.subject_id, held.id, held.environment, held.observer, held.event_uids,
        coalesce(held.issued_at, held.first_seen) AS seen_at,
        chain.root_key, chain.root_principal, chain.root_scopes, chain.beyond_root_scopes,
        chain.confidence
    FROM credentials AS held
    INNER JOIN chains AS chain
        ON held.tenant_id = chain.tenant_id AND held.credential_key = chain.credential_key
    WHERE held.instruction_source IN ('document', 'tool_result', 'child_result')
        AND chain.root_attenuation = 'not_covered' AND chain.root_scope_known
        AND chain.credential_key <> chain.root_key
),
-- Whoever observed the call may know what triggered it: a runtime does, the gateway does not.
triggers AS (
    SELECT link.tenant_id, link.call_key, min(event.instruction_source) AS instruction_source
    FROM tool_calls AS event
    INNER JOIN call_links AS link
        ON event.tenant_id = link.tenant_id AND event.event_uid = link.event_uid
        AND event.event_date = link.event_date
    WHERE event.instruction_source IN ('document', 'tool_result', 'child_result')
    GROUP BY link.tenant_id, link.call_key
),
-- Beyond the chain's effective authority first: what lies outside the root lies outside that.
attempts AS (
    SELECT
        call.tenant_id, call.call_key, call.event_uid, call.event_time, triggers.instruction_source,
        call.agent_id, call.tool_name, call.resource, call.outcome, call.action_class,
        call.resource_sensitivity, call.environment, call.observer, call.credential_key,
        call.root_key, call.root_principal, call.confidence,
        -- Behind an unknown hop only what the root itself never granted is certain.
        CASE WHEN call.effective_scope_known THEN call.missing_scopes
            ELSE list_filter(call.missing_scopes, lambda x: list_contains(chain.beyond_root_scopes, x))
        END AS missing_scopes,
        chain.root_scopes, root.issuer AS root_issuer, root.scope_dialect AS root_dialect
    FROM calls AS call
    INNER JOIN triggers ON call.tenant_id = triggers.tenant_id AND call.call_key = triggers.call_key
    INNER JOIN chains AS chain
        ON call.tenant_id = chain.tenant_id AND call.credential_key = chain.credential_key
    INNER JOIN credentials AS root
        ON call.tenant_id = root.tenant_id AND call.root_key = root.credential_key
    LEFT JOIN reg_issuers AS issuer ON root.issuer = issuer.issuer
    WHERE call.scope_coverage = 'not_covered'
        AND call.outcome <> 'denied'
        AND NOT (call.outcome <> 'success' AND coalesce(call.decision_effect, 'none') = 'deny')
        AND chain.root_scope_known
        -- Names of these dialects, and of an issuer with a hierarchy, cannot be compared as text.
        AND coalesce(root.scope_dialect, 'exact') NOT IN ('aws', 'policy')
        AND NOT coalesce(issuer.has_hierarchy, false)
),
needs AS (
    SELECT attempts.tenant_id, attempts.call_key, attempts.root_scopes, attempts.root_issuer, item.scope
    FROM attempts
    CROSS JOIN unnest(attempts.missing_scopes) AS item(scope)
),
implied AS (
    SELECT issuer, scope, implies FROM reg_scope_implications
    UNION
    SELECT one.issuer, one.scope, two.implies
    FROM reg_scope_implications AS one
    INNER JOIN reg_scope_implications AS two ON one.implies = two.scope
    UNION
    -- A translated name is the root's own scope at another audience.
    SELECT from_issuer AS issuer, from_scope AS scope, to_scope AS implies FROM reg_scope_maps
),
-- Anything that looks like a wildcard counts as cover: a guess must not accuse.
held_by_root AS (
    SELECT DISTINCT needs.tenant_id, needs.call_key, needs.scope
    FROM needs
    CROSS JOIN unnest(needs.root_scopes) AS granted(scope)
    LEFT JOIN implied
        ON granted.scope = implied.scope AND needs.scope = implied.implies
        AND (implied.issuer IS NULL OR implied.issuer = needs.root_issuer)
    WHERE granted.scope = needs.scope
        OR granted.scope = '*'
        OR implied.implies IS NOT NULL
        OR (
            (ends_with(granted.scope, '.*') OR ends_with(granted.scope, ':*') OR ends_with(granted.scope, '/*'))
            AND length(needs.scope) >= length(granted.scope)
            AND starts_with(needs.scope, left(granted.scope, length(granted.scope) - 1))
        )
),
outside AS (
    SELECT needs.tenant_id, needs.call_key, list_sort(list(needs.scope)) AS scopes
    FROM needs
    LEFT JOIN held_by_root
        ON needs.tenant_id = held_by_root.tenant_id AND needs.call_key = held_by_root.call_key
        AND needs.scope = held_by_root.scope
    WHERE held_by_root.scope IS NULL
    GROUP BY needs.tenant_id, needs.call_key
),
seen AS (
    SELECT link.tenant_id, link.call_key, list(link.event_uid) AS event_uids
    FROM call_links AS link
    INNER JOIN outside ON link.tenant_id = outside.tenant_id AND link.call_key = outside.call_key
    GROUP BY link.tenant_id, link.call_key
)
SELECT
    instructed.tenant_id,
    'credential' AS triggered,
    instructed.credential_key AS triggered_key,
    coalesce(instructed.actor_id, instructed.client_id, instructed.subject_id, instructed.id) AS entity,
    'A ' || replace(instructed.instruction_source, '_', ' ') || ' led '
        || coalesce(instructed.actor_id, instructed.client_id, instructed.subject_id, 'an agent')
        || ' to authority outside the root grant: '
        || array_to_string(list_sort(instructed.beyond_root_scopes), ' ') AS title,
    instructed.confidence,
    instructed.confidence AS chain_confidence,
    instructed.credential_key,
    CAST(NULL AS VARCHAR) AS action_class,
    CAST(NULL AS INTEGER) AS resource_sensitivity,
    instructed.environment,
    instructed.observer,
    instructed.instruction_source,
    CAST(NULL AS VARCHAR) AS tool_name,
    CAST(NULL AS VARCHAR) AS resource,
    CAST(NULL AS VARCHAR) AS outcome,
    list_sort(instructed.beyond_root_scopes) AS outside_scopes,
    instructed.root_scopes,
    instructed.root_principal,
    instructed.seen_at AS first_seen,
    instructed.seen_at AS last_seen,
    list_sort(list_distinct(list_concat(
        instructed.event_uids, coalesce(root.event_uids, CAST([] AS VARCHAR[]))
    ))) AS event_uids
FROM instructed
LEFT JOIN credentials AS root
    ON instructed.tenant_id = root.tenant_id AND instructed.root_key = root.credential_key
UNION ALL
SELECT
    attempts.tenant_id,
    'call' AS triggered,
    attempts.call_key AS triggered_key,
    attempts.agent_id AS entity,
    'A ' || replace(attempts.instruction_source, '_', ' ') || ' led ' || attempts.agent_id
        || ' to call ' || attempts.tool_name || ' outside the root grant: '
        || array_to_string(outside.scopes, ' ') AS title,
    attempts.confidence,
    attempts.confidence AS chain_confidence,
    attempts.credential_key,
    attempts.action_class,
    attempts.resource_sensitivity,
    attempts.environment,
    attempts.observer,
    attempts.instruction_source,
    attempts.tool_name,
    attempts.resource,
    attempts.outcome,
    outside.scopes AS outside_scopes,
    attempts.root_scopes,
    attempts.root_principal,
    attempts.event_time AS first_seen,
    attempts.event_time AS last_seen,
    list_sort(list_distinct(list_concat(
        coalesce(seen.event_uids, [attempts.event_uid]), coalesce(held.event_uids, CAST([] AS VARCHAR[]))
    ))) AS event_uids
FROM attempts
INNER JOIN outside ON attempts.tenant_id = outside.tenant_id AND attempts.call_key = outside.call_key
LEFT JOIN seen ON attempts.tenant_id = seen.tenant_id AND attempts.call_key = seen.call_key
LEFT JOIN credentials AS held
    ON attempts.tenant_id = held.tenant_id AND attempts.credential_key = held.credential_key
