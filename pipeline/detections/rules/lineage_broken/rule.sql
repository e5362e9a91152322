-- A credential must have come from somewhere, and no record says from where.
--
-- One row per credential at which the trail breaks, however much hangs below it; one per
-- source and client where a day has more of them than that, for then a source is missing
-- and not a record.
WITH gaps AS (
    SELECT
        chain.tenant_id, coalesce(chain.gap_key, chain.root_key) AS gap_key,
        min(chain.gap_kind) AS gap_kind, count(*) AS credentials_below
    FROM chains AS chain
    WHERE chain.status = 'broken'
        -- A source that was silent, or not there yet, is one gap of its own (BT-07): nothing is
        -- said of each record that it swallowed.
        AND coalesce(chain.gap_kind NOT IN ('source_outage', 'source_not_onboarded'), true)
    GROUP BY chain.tenant_id, coalesce(chain.gap_key, chain.root_key)
),
used AS (
    SELECT
        call.tenant_id, call.root_key AS gap_key, call.event_uid, call.event_time, call.action_class,
        call.resource_sensitivity, call.agent_id,
        row_number() OVER (
            PARTITION BY call.tenant_id, call.root_key ORDER BY call.event_time, call.event_uid
        ) AS place
    FROM calls AS call
    WHERE call.status = 'broken'
),
use_of_gap AS (
    SELECT
        tenant_id, gap_key, count(*) AS calls, max(event_time) AS last_call,
        max(resource_sensitivity) AS resource_sensitivity,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        min(agent_id) AS agent_id,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM used
    GROUP BY tenant_id, gap_key
),
-- What names the credential as its parent shows as well that it was there.
made_of_gap AS (
    SELECT
        child.tenant_id, child.parent_key AS gap_key,
        min(coalesce(child.client_id, child.actor_id)) AS presenter,
        list_sort(list_distinct(flatten(list(child.event_uids)))) AS event_uids
    FROM credentials AS child
    INNER JOIN gaps ON child.tenant_id = gaps.tenant_id AND child.parent_key = gaps.gap_key
    GROUP BY child.tenant_id, child.parent_key
),
rejected AS (
    SELECT tenant_id, child_key, count(*) AS candidates, list_sort(list_distinct(list(reason))) AS reasons
    FROM hop_candidates
    GROUP BY tenant_id, child_key
),
broken AS (
    SELECT
        gaps.tenant_id, gaps.gap_key, gaps.gap_kind, gaps.credentials_below,
        held.source, held.issuer, held.kind, held.id, held.issue_op, held.grant_type,
        coalesce(held.client_id, held.actor_id, use_of_gap.agent_id, made_of_gap.presenter, held.subject_id, 'unknown') AS client,
        coalesce(held.actor_id, held.client_id, use_of_gap.agent_id, made_of_gap.presenter, held.subject_id, 'unknown') AS entity,
        held.environment, held.observer, held.first_seen,
        greatest(held.last_seen, coalesce(use_of_gap.last_call, held.last_seen)) AS last_seen,
        coalesce(use_of_gap.calls, 0) AS calls, use_of_gap.action_class, use_of_gap.resource_sensitivity,
        coalesce(rejected.candidates, 0) AS candidates,
        coalesce(rejected.reasons, CAST([] AS VARCHAR[])) AS rejected_because,
        list_concat(
            held.event_uids,
            list_concat(
                coalesce(use_of_gap.event_uids, CAST([] AS VARCHAR[])),
                list_slice(coalesce(made_of_gap.event_uids, CAST([] AS VARCHAR[])), 1, $evidence_max)
            )
        ) AS event_uids,
        count(*) OVER (
            PARTITION BY
                gaps.tenant_id, held.source,
                coalesce(held.client_id, held.actor_id, use_of_gap.agent_id, made_of_gap.presenter, held.subject_id, 'unknown'),
                CAST(held.first_seen AS DATE)
        ) AS same_day
    FROM gaps
    INNER JOIN credentials AS held
        ON gaps.tenant_id = held.tenant_id AND gaps.gap_key = held.credential_key
    INNER JOIN rule_watermarks AS until ON gaps.tenant_id = until.tenant_id
    LEFT JOIN use_of_gap
        ON gaps.tenant_id = use_of_gap.tenant_id AND gaps.gap_key = use_of_gap.gap_key
    LEFT JOIN made_of_gap
        ON gaps.tenant_id = made_of_gap.tenant_id AND gaps.gap_key = made_of_gap.gap_key
    LEFT JOIN rejected
        ON gaps.tenant_id = rejected.tenant_id AND gaps.gap_key = rejected.child_key
    WHERE held.first_seen < until.watermark
),
many AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY tenant_id, source, client ORDER BY first_seen, gap_key) AS place
    FROM broken
    WHERE same_day > $daily_max
)
SELECT
    tenant_id,
    'credential' AS broken_at,
    gap_key AS broken_key,
    entity,
    'The trail of ' || coalesce(kind, 'a credential') || ' ' || coalesce(id, gap_key) || ' of ' || entity
        || ' breaks: ' || replace(coalesce(gap_kind, 'its origin is missing'), '_', ' ') AS title,
    gap_key AS credential_key,
    action_class,
    resource_sensitivity,
    environment,
    observer,
    gap_kind,
    source,
    client,
    issuer,
    issue_op,
    grant_type,
    credentials_below,
    calls,
    CAST(1 AS BIGINT) AS broken_credentials,
    candidates,
    rejected_because,
    first_seen,
    last_seen,
    list_sort(list_distinct(event_uids)) AS event_uids
FROM broken
WHERE same_day <= $daily_max
UNION ALL
SELECT
    tenant_id,
    'client' AS broken_at,
    source || ' ' || client AS broken_key,
    client AS entity,
    CAST(count(*) AS VARCHAR) || ' credentials of ' || client || ' that ' || source
        || ' reports have no traceable origin' AS title,
    CAST(NULL AS VARCHAR) AS credential_key,
    max(action_class) AS action_class,
    max(resource_sensitivity) AS resource_sensitivity,
    max(environment) AS environment,
    min(observer) AS observer,
    min(gap_kind) AS gap_kind,
    source,
    client,
    min(issuer) AS issuer,
    min(issue_op) AS issue_op,
    min(grant_type) AS grant_type,
    CAST(sum(credentials_below) AS BIGINT) AS credentials_below,
    CAST(sum(calls) AS BIGINT) AS calls,
    count(*) AS broken_credentials,
    CAST(sum(candidates) AS BIGINT) AS candidates,
    list_sort(list_distinct(flatten(list(rejected_because)))) AS rejected_because,
    min(first_seen) AS first_seen,
    max(last_seen) AS last_seen,
    list_sort(list_distinct(flatten(list(event_uids) FILTER (WHERE place <= $evidence_max)))) AS event_uids
FROM many
GROUP BY tenant_id, source, client
