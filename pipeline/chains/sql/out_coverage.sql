-- What a SOC manager can act on: the share of calls with each piece of context.
WITH envelopes AS (
    SELECT tenant_id, source, event_date, event_time, ingest_time, parse_status FROM tool_calls
    UNION ALL SELECT tenant_id, source, event_date, event_time, ingest_time, parse_status FROM token_events
    UNION ALL SELECT tenant_id, source, event_date, event_time, ingest_time, parse_status FROM secret_events
),
volumes AS (
    SELECT tenant_id, source, event_date, count(*) AS events,
        count(*) FILTER (parse_status = 'partial') AS partial,
        quantile_cont(epoch(ingest_time) - epoch(event_time), 0.5) AS lateness_p50_s,
        quantile_cont(epoch(ingest_time) - epoch(event_time), 0.95) AS lateness_p95_s,
        max(event_time) AS last_event_time
    FROM envelopes
    GROUP BY tenant_id, source, event_date
),
contexts AS (
    SELECT call.tenant_id, call.source, call.event_date, count(*) AS calls,
        avg((agent_id IS NOT NULL AND agent_id <> 'unknown')::INTEGER) AS with_agent,
        avg((subject_id IS NOT NULL)::INTEGER) AS with_subject,
        avg((resource IS NOT NULL)::INTEGER) AS with_resource,
        avg((coalesce(decision_effect, 'none') <> 'none')::INTEGER) AS with_decision,
        avg((trace_id IS NOT NULL OR txn_id IS NOT NULL OR session_id IS NOT NULL OR task_id IS NOT NULL)::INTEGER) AS with_correlation,
        avg((call.credential_id IS NOT NULL)::INTEGER) AS with_credential_id,
        avg((link.credential_key IS NOT NULL)::INTEGER) AS linked,
        avg(coalesce(chain.status IN ('complete', 'complete_probable'), false)::INTEGER) AS complete,
        avg(coalesce(chain.status = 'broken', false)::INTEGER) AS broken,
        avg((coalesce(chain.unknown_count, 0) > 0)::INTEGER) AS unknown_attenuation
    FROM tool_calls AS call
    LEFT JOIN all_call_links AS link ON link.event_uid = call.event_uid
    LEFT JOIN all_chains AS chain ON chain.credential_key = link.credential_key
    GROUP BY call.tenant_id, call.source, call.event_date
)
SELECT
    volumes.tenant_id, volumes.source, volumes.event_date, events, coalesce(calls, 0) AS calls,
    with_agent, with_subject, with_resource, with_decision, with_correlation, with_credential_id,
    linked, complete, broken, unknown_attenuation, partial, lateness_p50_s, lateness_p95_s, last_event_time
FROM volumes
LEFT JOIN contexts USING (tenant_id, source, event_date)
