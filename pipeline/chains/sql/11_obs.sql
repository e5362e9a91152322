-- Observations of tool calls in scope, narrowed to what linking reads.
CREATE OR REPLACE TEMP TABLE obs AS
SELECT
    tenant_id, event_uid, event_date, event_time, source, observer, trace_id, span_id,
    parent_span_id, txn_id, session_id, task_id, call_id, phase, tool_name, tool_server,
    tool_protocol, agent_id, agent_issuer, agent_instance, actor_id, subject_id, subject_issuer,
    subject_kind, outcome, required_scopes, presented_scopes, presented_audience, cnf_thumbprint,
    credential_issuer, credential_kind, credential_id, environment, trust_domain,
    act_chain, act_truncated OR act_malformed_reason IS NOT NULL AS act_is_cut,
    CASE WHEN credential_id IS NOT NULL
        THEN id_key(tenant_id, credential_issuer, credential_kind, credential_id) END AS own_id_key,
    evidence_class_of(observer) AS evidence_class,
    evidence_rank_of(observer) AS evidence_rank,
    -- A tool reached over stdio or in process takes no token (MCP authorization, 2026-07-28).
    credential_id IS NULL AND coalesce(tool_protocol, 'unknown') NOT IN ('mcp_stdio', 'function')
        AS needs_inference,
    -- AWS makes such keys for the console's pages and for its services, and no record tells of it.
    credential_kind = 'access_key_id' AND (
        coalesce(ext['sessionCredentialFromConsole'] = 'true', false)
        OR coalesce(nullif(ext['invokedBy'], '') IS NOT NULL, false)
    ) AS is_by_lent_key,
    coalesce(subject_exact.identity_id, subject_any.identity_id, event.subject_id) AS subject_identity,
    CASE WHEN coalesce(subject_exact.identity_id, subject_any.identity_id) IS NULL THEN nullif(event.subject_issuer, '') END
        AS subject_namespace
FROM scope_tool_calls AS event
LEFT JOIN identity_lookup AS subject_exact
    ON subject_exact.subject = event.subject_id AND subject_exact.issuer = event.subject_issuer
LEFT JOIN identity_lookup AS subject_any
    ON subject_any.subject = event.subject_id AND subject_any.issuer = '*'
