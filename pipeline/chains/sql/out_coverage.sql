-- What a SOC manager can act on: the share of calls with each piece of context (AIMS-7).
WITH envelopes AS (
    SELECT tenant_id, source, event_date, event_time, ingest_time, parse_status, observer FROM tool_calls
    UNION ALL SELECT tenant_id, source, event_date, event_time, ingest_time, parse_status, observer FROM token_events
    UNION ALL SELECT tenant_id, source, event_date, event_time, ingest_time, parse_status, observer FROM secret_events
),
volumes AS (
    SELECT tenant_id, source, event_date, count(*) AS events,
        count(*) FILTER (parse_status = 'partial') AS partial,
        quantile_cont(epoch(ingest_time) - epoch(event_time), 0.5) AS lateness_p50_s,
        quantile_cont(epoch(ingest_time) - epoch(event_time), 0.95) AS lateness_p95_s,
        avg((epoch(ingest_time) - epoch(event_time) > lateness_of(observer))::INTEGER) AS late,
        max(event_time) AS last_event_time
    FROM envelopes
    GROUP BY tenant_id, source, event_date
),
-- Names of agents whose class wants a person behind them, where the registry is sure of it.
wanting AS (
    SELECT named.name, bool_and(coalesce(known.human_root_required, false)) AS wants_subject
    FROM reg_names AS named
    JOIN reg_identities AS known ON known.identity_id = named.identity_id
    GROUP BY named.name
),
contexts AS (
    SELECT call.tenant_id, call.source, call.event_date, count(*) AS calls,
        avg((agent_id IS NOT NULL AND agent_id <> 'unknown')::INTEGER) AS with_agent,
        avg((subject_id IS NOT NULL)::INTEGER) AS with_subject,
        count(*) FILTER (wanting.wants_subject) AS expecting_subject,
        avg((subject_id IS NOT NULL)::INTEGER) FILTER (wanting.wants_subject) AS with_expected_subject,
        avg((resource IS NOT NULL)::INTEGER) AS with_resource,
        avg((coalesce(decision_effect, 'none') <> 'none')::INTEGER) AS with_decision,
        avg((trace_id IS NOT NULL OR txn_id IS NOT NULL OR session_id IS NOT NULL OR task_id IS NOT NULL)::INTEGER) AS with_correlation,
        avg((workload_id IS NOT NULL OR cnf_thumbprint IS NOT NULL)::INTEGER) AS with_attestation,
        avg((call.credential_id IS NOT NULL)::INTEGER) AS with_credential_id,
        avg((link.credential_key IS NOT NULL)::INTEGER) AS linked,
        avg(coalesce(chain.status IN ('complete', 'complete_probable'), false)::INTEGER) AS complete,
        avg(coalesce(chain.status IN ('complete_to_boundary', 'retention_truncated'), false)::INTEGER) AS truncated,
        avg(coalesce(chain.status = 'pending', false)::INTEGER) AS pending,
        avg(coalesce(chain.status = 'broken', false)::INTEGER) AS broken,
        avg(coalesce(chain.status = 'unknown_root', false)::INTEGER) AS unknown_root,
        avg((coalesce(chain.unknown_count, 0) > 0)::INTEGER) AS unknown_attenuation
    FROM tool_calls AS call
    LEFT JOIN all_call_links AS link ON link.event_uid = call.event_uid
    LEFT JOIN all_chains AS chain ON chain.credential_key = link.credential_key
    LEFT JOIN wanting ON wanting.name = call.agent_id
    GROUP BY call.tenant_id, call.source, call.event_date
),
-- AIMS-7 (7): does a revocation meet a credential that was seen made?
revoked AS (
    SELECT tenant_id, source, event_date, event_uid, credential_issuer, credential_kind, credential_id
    FROM token_events
    WHERE op = 'revoke' AND outcome = 'success' AND coalesce(revoke_target, 'token') = 'token'
),
revocations AS (
    SELECT revoked.tenant_id, revoked.source, revoked.event_date, count(*) AS revocations,
        avg((made.credential_id IS NOT NULL)::INTEGER) AS revocations_linked
    FROM revoked
    LEFT JOIN (
        SELECT DISTINCT event.tenant_id, event.credential_issuer, event.credential_kind, event.credential_id
        FROM token_events AS event
        SEMI JOIN revoked ON revoked.tenant_id = event.tenant_id AND revoked.credential_id = event.credential_id
        WHERE event.op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate') AND event.outcome = 'success'
    ) AS made ON made.tenant_id = revoked.tenant_id AND made.credential_id = revoked.credential_id
        AND made.credential_kind = revoked.credential_kind AND made.credential_issuer IS NOT DISTINCT FROM revoked.credential_issuer
    GROUP BY revoked.tenant_id, revoked.source, revoked.event_date
)
SELECT
    volumes.tenant_id, volumes.source, volumes.event_date, events, coalesce(calls, 0) AS calls,
    with_agent, with_subject, coalesce(expecting_subject, 0) AS expecting_subject, with_expected_subject,
    with_resource, with_decision, with_correlation, with_attestation, with_credential_id,
    linked, complete, truncated, pending, broken, unknown_root, unknown_attenuation,
    coalesce(revocations, 0) AS revocations, revocations_linked,
    partial, lateness_p50_s, lateness_p95_s, late, last_event_time
FROM volumes
LEFT JOIN contexts USING (tenant_id, source, event_date)
LEFT JOIN revocations USING (tenant_id, source, event_date)
