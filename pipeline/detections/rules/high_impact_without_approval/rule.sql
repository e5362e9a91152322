-- An action for which the registry demands an approval was done without one that is bound to it.
--
-- One row per agent, tool and fault, or per approval that was used twice.  Any observation of
-- the call may carry the approval.  Where nobody logged the arguments' hash, whether it fits is
-- unknown, which is no finding.
WITH demands AS (
    SELECT
        identity.identity_id, item.action_class, identity.vendor_hosted, identity.valid_from, identity.valid_to
    FROM reg_identities_as_of AS identity
    CROSS JOIN unnest(identity.approval_required_for) AS item(action_class)
),
names AS (
    SELECT seen.tenant_id, seen.agent_id, seen.agent_issuer,
        coalesce(min(named.identity_id) FILTER (WHERE named.issuer = seen.agent_issuer), min(named.identity_id))
            AS identity_id
    FROM (
        SELECT tenant_id, agent_id, agent_issuer
        FROM tool_calls
        WHERE action_class IN (SELECT action_class FROM demands)
        GROUP BY tenant_id, agent_id, agent_issuer
    ) AS seen
    INNER JOIN reg_names AS named
        ON seen.agent_id = named.name
        AND (named.issuer IS NULL OR seen.agent_issuer IS NULL OR named.issuer = seen.agent_issuer)
    GROUP BY seen.tenant_id, seen.agent_id, seen.agent_issuer
    HAVING coalesce(
        nullif(count(DISTINCT named.identity_id) FILTER (WHERE named.issuer = seen.agent_issuer), 0),
        count(DISTINCT named.identity_id)
    ) = 1
),
high AS (
    SELECT
        call.tenant_id, call.call_key, call.event_uid, call.event_time, call.source, call.observer,
        call.call_id, call.agent_id, call.environment, call.tool_name, call.action_class, call.resource_sensitivity, call.credential_key,
        call.outcome, call.phase, call.confidence, names.identity_id, demands.vendor_hosted
    FROM calls AS call
    INNER JOIN names
        ON call.tenant_id = names.tenant_id AND call.agent_id = names.agent_id
        AND call.agent_issuer IS NOT DISTINCT FROM names.agent_issuer
    INNER JOIN demands
        ON names.identity_id = demands.identity_id AND call.action_class = demands.action_class
        AND call.event_time >= demands.valid_from AND call.event_time < demands.valid_to
    INNER JOIN rule_watermarks AS closed
        ON call.tenant_id = closed.tenant_id AND call.event_time < closed.watermark
    LEFT JOIN reg_break_glass AS emergency
        ON names.identity_id = emergency.identity_id
        AND call.event_time >= emergency.since AND call.event_time < emergency.until
    -- What failed or was refused did nothing.
    WHERE call.agent_id IN (SELECT agent_id FROM names) AND call.action_class IN (SELECT action_class FROM demands)
        AND call.outcome NOT IN ('denied', 'failure') AND coalesce(call.decision_effect, 'none') <> 'deny'
        AND emergency.identity_id IS NULL
),
-- The records of a call: those that share its key, and where no trace ties two of them, another
-- source's of the same agent, id, tool and time.
observed AS (
    SELECT link.tenant_id, link.call_key, link.event_uid, link.event_date
    FROM (SELECT DISTINCT tenant_id, call_key FROM high) AS wanted
    INNER JOIN call_links AS link
        ON wanted.tenant_id = link.tenant_id AND wanted.call_key = link.call_key
    UNION
    SELECT high.tenant_id, high.call_key, other.event_uid, other.event_date
    FROM high
    INNER JOIN tool_calls AS other
        ON high.tenant_id = other.tenant_id AND high.call_id = other.call_id
        AND high.tool_name = other.tool_name AND high.agent_id = other.agent_id
        AND high.source <> other.source
    WHERE abs(epoch(high.event_time) - epoch(other.event_time)) <= $skew_s
),
approved AS (
    SELECT
        link.tenant_id, link.call_key,
        max(seen.approval_id) AS approval_id,
        bool_or(seen.approval_id IS NOT NULL OR seen.approval_args_hash IS NOT NULL) AS has_approval,
        max(seen.args_hash) AS args_hash,
        bool_or(seen.approval_args_hash IS NOT NULL) AS is_bound,
        list_distinct(list(seen.args_hash) FILTER (WHERE seen.args_hash IS NOT NULL)) AS args_hashes,
        list_distinct(list(seen.approval_args_hash) FILTER (WHERE seen.approval_args_hash IS NOT NULL)) AS bound_to,
        max(seen.approval_expires_at) AS approval_expires_at
    FROM observed AS link
    INNER JOIN tool_calls AS seen
        ON link.tenant_id = seen.tenant_id AND link.event_uid = seen.event_uid
        AND link.event_date = seen.event_date
    GROUP BY link.tenant_id, link.call_key
),
judged AS (
    SELECT
        high.*, approved.approval_id, approved.args_hash, approved.approval_expires_at,
        CASE
            WHEN NOT approved.has_approval THEN 'none'
            WHEN approved.args_hash IS NOT NULL AND NOT approved.is_bound THEN 'unbound'
            WHEN approved.args_hash IS NOT NULL
                AND array_length(list_intersect(approved.args_hashes, approved.bound_to)) = 0
                THEN 'other arguments'
            WHEN epoch(high.event_time) - epoch(approved.approval_expires_at) > $skew_s THEN 'expired'
        END AS problem
    FROM high
    INNER JOIN approved ON high.tenant_id = approved.tenant_id AND high.call_key = approved.call_key
),
-- Two calls of one log: two views of one call are not two uses.
reused AS (
    SELECT tenant_id, approval_id, min(identity_id) AS identity_id
    FROM (
        SELECT tenant_id, approval_id, source, min(identity_id) AS identity_id
        FROM judged
        WHERE approval_id IS NOT NULL AND outcome = 'success' AND coalesce(phase, 'single') <> 'pre'
        GROUP BY tenant_id, approval_id, source
        HAVING count(DISTINCT call_key) > 1
    )
    GROUP BY tenant_id, approval_id
),
against AS (
    SELECT
        tenant_id, problem, identity_id || ' ' || tool_name AS about, identity_id, event_uid, event_time,
        observer, environment, tool_name, action_class, resource_sensitivity, vendor_hosted, approval_id,
        approval_expires_at
    FROM judged
    WHERE problem IS NOT NULL
    UNION ALL
    SELECT
        judged.tenant_id, 'reused' AS problem, judged.approval_id AS about, reused.identity_id, judged.event_uid,
        judged.event_time, judged.observer, judged.environment, judged.tool_name, judged.action_class,
        judged.resource_sensitivity, judged.vendor_hosted, judged.approval_id, judged.approval_expires_at
    FROM judged
    INNER JOIN reused ON judged.tenant_id = reused.tenant_id AND judged.approval_id = reused.approval_id
),
placed AS (
    SELECT *, row_number() OVER (PARTITION BY tenant_id, problem, about ORDER BY event_time, event_uid) AS place
    FROM against
),
found AS (
    SELECT
        tenant_id, problem, about, min(identity_id) AS identity_id, count(*) AS calls,
        list_sort(list(DISTINCT tool_name)) AS tools,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        list_sort(list(DISTINCT action_class)) AS action_classes,
        max(resource_sensitivity) AS resource_sensitivity,
        bool_or(coalesce(vendor_hosted, false)) AS vendor_hosted,
        CASE WHEN count(DISTINCT coalesce(environment, 'unknown')) = 1 THEN min(environment) END AS environment,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        list_sort(list(DISTINCT approval_id) FILTER (WHERE approval_id IS NOT NULL AND place <= $evidence_max))
            AS approvals,
        max(approval_expires_at) AS approval_expires_at,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list(DISTINCT event_uid) FILTER (WHERE place <= $evidence_max)) AS event_uids
    FROM placed
    GROUP BY tenant_id, problem, about
)
SELECT
    tenant_id,
    problem,
    about,
    identity_id,
    identity_id AS entity,
    CASE problem
        WHEN 'reused' THEN 'One approval was used for several actions of ' || identity_id
        WHEN 'none' THEN identity_id || ' called ' || array_to_string(tools, ', ') || ' without an approval'
        WHEN 'expired' THEN identity_id || ' called ' || array_to_string(tools, ', ') || ' under an expired approval'
        ELSE identity_id || ' called ' || array_to_string(tools, ', ') || ' under an approval that is not bound to it'
    END AS title,
    action_class,
    resource_sensitivity,
    vendor_hosted,
    environment,
    coalesce(observer, 'agent_runtime') AS observer,
    action_classes,
    tools,
    approvals,
    approval_expires_at,
    calls,
    first_seen,
    last_seen,
    event_uids
FROM found
