-- An id that may be seen once was accepted twice.
--
-- One row per issuer and id.  Copies of one record, one call seen from several places, and a
-- request repeated under its own call id are one presentation.  A transaction id travels
-- through many workloads and counts only where its issuer declares it single-use, and then
-- per workload.
WITH declared AS (
    SELECT issuer FROM reg_issuers WHERE single_use
),
-- Nearly every id is seen once, and then there is nothing to tell apart.
repeated AS (
    SELECT tenant_id, used_id
    FROM (
        SELECT tenant_id, single_use_id AS used_id FROM tool_calls WHERE single_use_id IS NOT NULL
        UNION ALL
        SELECT tenant_id, single_use_id AS used_id FROM token_events WHERE single_use_id IS NOT NULL
        UNION ALL
        SELECT call.tenant_id, call.txn_id AS used_id
        FROM tool_calls AS call
        INNER JOIN declared ON call.credential_issuer = declared.issuer
        WHERE call.txn_id IS NOT NULL AND call.single_use_id IS NULL
        UNION ALL
        SELECT call.tenant_id, call.credential_id AS used_id
        FROM tool_calls AS call
        INNER JOIN declared ON call.credential_issuer = declared.issuer
        WHERE call.credential_id IS NOT NULL AND call.txn_id IS NULL AND call.single_use_id IS NULL
    ) AS ids
    GROUP BY tenant_id, used_id
    HAVING count(*) > 1
),
call_uses AS (
    SELECT
        call.tenant_id, call.credential_issuer, call.single_use_id, call.txn_id, call.credential_id, call.workload_id,
        call.event_uid, call.event_time, call.source, call.observer, call.agent_id, call.tool_name AS used_for,
        call.approval_id, call.action_class, call.environment, link.credential_key,
        CASE
            WHEN call.call_id IS NULL AND call.trace_id IS NULL
                AND epoch(call.event_time) - epoch(min(call.event_time) OVER same_id) <= $unnamed_within_s
                -- Each vantage point's first request is the same one.
                THEN concat('seen', chr(31), call.agent_id, chr(31), call.tool_name, chr(31), CAST(dense_rank() OVER (
                    PARTITION BY call.tenant_id, call.single_use_id, call.call_id, call.observer
                    ORDER BY call.source, link.call_key
                ) AS VARCHAR))
            WHEN call.call_id IS NULL THEN link.call_key
            -- A JSON-RPC counter says something only inside its trace or session.
            WHEN length(call.call_id) <= 4 THEN call.call_id || chr(31)
                || coalesce(call.trace_id, call.session_id, concat(
                    call.agent_id, chr(31), call.tool_name, chr(31),
                    -- Outside of both, two vantage points of one moment saw one request; two servers did not.
                    CASE WHEN epoch(call.event_time) - epoch(min(call.event_time) OVER same_id) <= $vantage_within_s
                        THEN CAST(dense_rank() OVER (
                            PARTITION BY call.tenant_id, call.single_use_id, call.call_id, call.observer
                            ORDER BY call.source
                        ) AS VARCHAR)
                        ELSE call.source END
                ))
            WHEN length(call.call_id) < 16 THEN call.call_id || chr(31) || call.agent_id || chr(31) || call.tool_name
            ELSE call.call_id
        END AS request,
        coalesce(call.trace_id || chr(31) || call.span_id, call.event_uid) AS place_in_trace
    FROM tool_calls AS call
    INNER JOIN call_links AS link
        ON call.event_uid = link.event_uid AND call.event_date = link.event_date
    INNER JOIN repeated
        ON call.tenant_id = repeated.tenant_id
        AND coalesce(call.single_use_id, call.txn_id, call.credential_id) = repeated.used_id
    WHERE call.outcome IN ('success', 'unknown')
    WINDOW same_id AS (
        PARTITION BY call.tenant_id, call.single_use_id, call.call_id, call.agent_id, call.tool_name
    )
),
token_uses AS (
    SELECT
        event.tenant_id, event.credential_issuer, event.single_use_id, event.event_uid, event.event_time,
        event.source, event.observer, coalesce(event.client_id, event.actor_id, event.subject_id) AS agent_id,
        event.op AS used_for, event.environment, alias.credential_key,
        -- One credential made is one redemption, however many report it.
        CASE WHEN event.op = 'use' THEN event.event_uid
            ELSE 'made' || chr(31) || coalesce(alias.credential_key, event.credential_id) END AS request,
        coalesce(event.trace_id || chr(31) || event.span_id, event.event_uid) AS place_in_trace
    FROM token_events AS event
    INNER JOIN repeated
        ON event.tenant_id = repeated.tenant_id AND event.single_use_id = repeated.used_id
    LEFT JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.credential_id = alias.id
        AND event.credential_kind = alias.kind
        AND event.credential_issuer IS NOT DISTINCT FROM alias.issuer
    WHERE event.single_use_id IS NOT NULL AND event.outcome = 'success'
        AND event.op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'use')
        -- Making the thing itself is not yet a use of it.
        AND event.credential_id <> event.single_use_id
),
-- A grant for another domain is redeemed once; whoever redeems it names it as what was asserted.
-- Kept, so that no plan joins tokens with credentials by their tenant alone.
asserted AS MATERIALIZED (
    SELECT event.*, granted.credential_key AS granted_key
    FROM (
        SELECT
            tenant_id, event_uid, event_time, source, observer, client_id, actor_id, subject_id, op, environment,
            credential_issuer, credential_kind, credential_id, trace_id, span_id, unnest(parents) AS parent
        FROM token_events
        WHERE outcome = 'success' AND op IN ('issue', 'exchange') AND single_use_id IS NULL
    ) AS event
    INNER JOIN credential_aliases AS granted
        ON event.tenant_id = granted.tenant_id AND event.parent.id = granted.id
        AND event.parent.kind = granted.kind AND event.parent.issuer IS NOT DISTINCT FROM granted.issuer
    WHERE event.parent.role IN ('assertion', 'subject')
),
redeemed AS MATERIALIZED (
    SELECT asserted.*, held.issuer AS held_issuer, held.id AS held_id
    FROM asserted
    INNER JOIN credentials AS held
        ON asserted.tenant_id = held.tenant_id AND asserted.granted_key = held.credential_key
    LEFT JOIN declared ON held.issuer = declared.issuer
    WHERE (asserted.parent.role = 'assertion' AND declared.issuer IS NOT NULL)
        OR contains(lower(coalesce(held.token_type, '')), 'id-jag')
),
redemptions AS (
    SELECT
        event.tenant_id, event.held_issuer AS credential_issuer, event.held_id AS single_use_id, event.event_uid,
        event.event_time, event.source, event.observer,
        coalesce(event.client_id, event.actor_id, event.subject_id) AS agent_id,
        event.op AS used_for, event.environment, own.credential_key,
        'made' || chr(31) || coalesce(own.credential_key, event.credential_id) AS request,
        coalesce(event.trace_id || chr(31) || event.span_id, event.event_uid) AS place_in_trace
    FROM redeemed AS event
    LEFT JOIN credential_aliases AS own
        ON event.tenant_id = own.tenant_id AND event.credential_id = own.id
        AND event.credential_kind = own.kind AND event.credential_issuer IS NOT DISTINCT FROM own.issuer
),
-- A token service that notes the use of what a call presented saw the same presentation.
noted_by_call AS (
    SELECT DISTINCT tenant_id, single_use_id FROM call_uses WHERE single_use_id IS NOT NULL
),
presentations AS (
    SELECT
        tenant_id, 'id' AS id_kind, credential_issuer, single_use_id,
        CASE WHEN single_use_id = txn_id THEN coalesce(workload_id, agent_id) ELSE '' END AS used_within,
        event_uid, event_time, source, observer, agent_id, used_for, environment, credential_key,
        action_class, request, place_in_trace,
        approval_id IS NOT NULL AND approval_id = single_use_id AS is_approval
    FROM call_uses
    WHERE single_use_id IS NOT NULL
    UNION ALL
    SELECT
        call_uses.tenant_id, 'txn' AS id_kind, call_uses.credential_issuer, call_uses.txn_id AS single_use_id,
        call_uses.workload_id AS used_within, call_uses.event_uid, call_uses.event_time, call_uses.source,
        call_uses.observer, call_uses.agent_id, call_uses.used_for, call_uses.environment,
        call_uses.credential_key, call_uses.action_class, call_uses.request, call_uses.place_in_trace,
        false AS is_approval
    FROM call_uses
    INNER JOIN declared ON call_uses.credential_issuer = declared.issuer
    WHERE call_uses.txn_id IS NOT NULL AND call_uses.workload_id IS NOT NULL
        AND call_uses.single_use_id IS NULL
    UNION ALL
    -- What such an issuer makes may itself be used once, by whoever holds it.
    SELECT
        call_uses.tenant_id, 'credential' AS id_kind, call_uses.credential_issuer,
        call_uses.credential_id AS single_use_id, coalesce(call_uses.workload_id, call_uses.agent_id) AS used_within,
        call_uses.event_uid, call_uses.event_time, call_uses.source,
        call_uses.observer, call_uses.agent_id, call_uses.used_for, call_uses.environment,
        call_uses.credential_key, call_uses.action_class, call_uses.request, call_uses.place_in_trace,
        false AS is_approval
    FROM call_uses
    INNER JOIN declared ON call_uses.credential_issuer = declared.issuer
    WHERE call_uses.txn_id IS NULL AND call_uses.single_use_id IS NULL
    UNION ALL
    SELECT
        token_uses.tenant_id, 'id' AS id_kind, token_uses.credential_issuer, token_uses.single_use_id,
        '' AS used_within, token_uses.event_uid, token_uses.event_time, token_uses.source,
        token_uses.observer, token_uses.agent_id, token_uses.used_for, token_uses.environment,
        token_uses.credential_key, CAST(NULL AS VARCHAR) AS action_class, token_uses.request,
        token_uses.place_in_trace, false AS is_approval
    FROM token_uses
    LEFT JOIN noted_by_call AS noted
        ON token_uses.tenant_id = noted.tenant_id AND token_uses.single_use_id = noted.single_use_id
    WHERE token_uses.used_for <> 'use' OR noted.single_use_id IS NULL
    UNION ALL
    SELECT
        tenant_id, 'id' AS id_kind, credential_issuer, single_use_id, '' AS used_within, event_uid, event_time,
        source, observer, agent_id, used_for, environment, credential_key,
        CAST(NULL AS VARCHAR) AS action_class, request, place_in_trace, false AS is_approval
    FROM redemptions
),
-- Who does not name the issuer means the one that another names.
issued AS (
    SELECT
        *,
        coalesce(
            credential_issuer, max(credential_issuer) OVER (PARTITION BY tenant_id, single_use_id), ''
        ) AS issuer
    FROM presentations
),
by_request AS (
    SELECT
        *,
        min(event_uid) OVER (
            PARTITION BY tenant_id, id_kind, issuer, single_use_id, used_within, request
        ) AS once
    FROM issued
),
by_trace AS (
    SELECT
        *,
        min(once) OVER (
            PARTITION BY tenant_id, id_kind, issuer, single_use_id, used_within, place_in_trace
        ) AS once_in_trace
    FROM by_request
),
distinct_uses AS (
    SELECT
        *,
        min(once_in_trace) OVER (
            PARTITION BY tenant_id, id_kind, issuer, single_use_id, used_within, request
        ) AS presentation,
        row_number() OVER (
            PARTITION BY tenant_id, id_kind, issuer, single_use_id, used_within
            ORDER BY event_time DESC, event_uid
        ) AS from_last
    FROM by_trace
)
SELECT
    tenant_id,
    id_kind,
    issuer,
    single_use_id,
    used_within,
    coalesce(max(agent_id) FILTER (WHERE from_last = 1), single_use_id) AS entity,
    'The single-use id ' || single_use_id || ' was accepted ' || CAST(count(DISTINCT presentation) AS VARCHAR)
        || ' times' AS title,
    CASE WHEN bool_or(is_approval) THEN 5 ELSE 4 END AS severity,
    max(credential_key) FILTER (WHERE from_last = 1) AS credential_key,
    max(action_class) FILTER (
        WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
    ) AS action_class,
    max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
    max(environment) AS environment,
    count(DISTINCT presentation) AS presentations,
    count(*) AS observations,
    list_sort(list_distinct(list(agent_id) FILTER (WHERE agent_id IS NOT NULL))) AS presented_by,
    list_sort(list_distinct(list(source))) AS accepted_by,
    list_sort(list_distinct(list(used_for))) AS used_for,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    list_sort(list_distinct(list(event_uid))) AS event_uids
FROM distinct_uses
GROUP BY tenant_id, id_kind, issuer, single_use_id, used_within
HAVING count(DISTINCT presentation) >= 2
