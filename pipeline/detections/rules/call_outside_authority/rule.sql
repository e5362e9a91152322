-- A call needed a scope that the whole chain behind it does not allow.
--
-- One row per call.  A denied call is the control working and is left out; where coverage is
-- unknown nothing is said.
WITH outside AS (
    SELECT
        tenant_id, call_key, event_uid, event_time, agent_id, tool_name, tool_server, operation, resource,
        outcome, required_scopes, presented_scopes, action_class, resource_sensitivity, environment,
        observer, credential_key, link_method, confidence, missing_scopes, effective_scopes,
        root_principal, trust_domains
    FROM calls
    WHERE scope_coverage = 'not_covered'
        AND outcome <> 'denied'
        -- Some sources log a refusal as a failure and tell the two apart by the decision.
        AND NOT (outcome <> 'success' AND coalesce(decision_effect, 'none') = 'deny')
),
seen AS (
    SELECT link.tenant_id, link.call_key, list(link.event_uid) AS event_uids
    FROM call_links AS link
    INNER JOIN outside AS call ON link.tenant_id = call.tenant_id AND link.call_key = call.call_key
    GROUP BY link.tenant_id, link.call_key
)
SELECT
    call.tenant_id,
    call.call_key,
    call.agent_id AS entity,
    call.agent_id || ' called ' || call.tool_name || ' without the authority for '
        || array_to_string(list_sort(call.missing_scopes), ' ') AS title,
    CASE WHEN call.outcome = 'success' THEN 4 ELSE 3 END AS severity,
    call.confidence,
    call.confidence AS chain_confidence,
    call.credential_key,
    call.action_class,
    call.resource_sensitivity,
    array_length(list_distinct(call.trust_domains)) > 1 AS cross_domain,
    call.environment,
    call.observer,
    call.agent_id,
    call.tool_name,
    call.tool_server,
    call.operation,
    call.resource,
    call.outcome,
    call.required_scopes,
    list_sort(call.missing_scopes) AS missing_scopes,
    call.effective_scopes,
    call.presented_scopes,
    call.root_principal,
    call.link_method,
    call.event_time AS first_seen,
    call.event_time AS last_seen,
    list_sort(list_distinct(list_concat(
        coalesce(seen.event_uids, [call.event_uid]), coalesce(held.event_uids, CAST([] AS VARCHAR[]))
    ))) AS event_uids
FROM outside AS call
LEFT JOIN seen ON call.tenant_id = seen.tenant_id AND call.call_key = seen.call_key
LEFT JOIN credentials AS held
    ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
