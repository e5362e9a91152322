-- Delegations: the delegate holds what the delegator's ledger made, known by its record id.
SELECT
    part,
    sha256 AS uid_of,
    chain_verdict = 'broken' OR absent IS NOT NULL AS is_partial,
    plain_of(r.record_id) AS event_id,
    concat_ws(':', 'aat', $instance) AS source,
    moment_of(r.timestamp) AS event_time,
    'agent_runtime' AS observer,
    $tenant_id AS tenant_id,
    plain_of(r.session_id) AS session_id,
    CASE WHEN r.outcome = 'success' THEN 'delegate' ELSE 'deny' END AS op,
    CASE WHEN r.outcome = 'success' THEN 'success' ELSE 'failure' END AS outcome,
    CASE WHEN r.outcome = 'success' THEN NULL ELSE r.outcome END AS error,
    CASE WHEN r.outcome = 'success' THEN concat_ws(':', 'aat', $instance) END AS credential_issuer,
    CASE WHEN r.outcome = 'success' THEN 'local' END AS credential_kind,
    CASE WHEN r.outcome = 'success' THEN plain_of(r.record_id) END AS credential_id,
    plain_of(r.agent_id) AS subject_id,
    'agent' AS subject_kind,
    plain_of(r.action_detail.delegate_agent_id) AS actor_id,
    'act' AS actor_convention,
    false AS scope_known,
    CASE WHEN r.outcome = 'success' THEN moment_of(r.timestamp) END AS issued_at,
    ext_of(
        ['action_type', 'outcome', 'record_phase', 'trust_level', 'delegate_trust_level', 'task_description_hash',
            'parent_record_id', 'prev_hash', 'record_hash', 'chain_verdict', 'chain_verdict_reason', 'missing_fields',
            'signature', 'sig_alg', 'signer_kid', 'recording_component', 'deny_reasons'],
        list_transform([r.action_type, r.outcome, r.record_phase, r.trust_level, r.action_detail.delegate_trust_level,
            sha256_of(r.action_detail.task_description_hash), r.parent_record_id, r.prev_hash, record_hash, chain_verdict,
            chain_verdict_reason, absent, CASE WHEN r.signature IS NULL THEN 'none' ELSE 'unchecked' END, r.sig_alg,
            r.signer_kid, r.recording_component, array_to_string(list_filter(r.deny_reasons, lambda one: regexp_full_match(one, '[A-Za-z0-9_]{1,64}')), ' ')], lambda one: plain_of(one))
    ) AS ext
FROM records
WHERE r.action_type = 'delegation' AND plain_of(r.action_detail.delegate_agent_id) IS NOT NULL
    AND plain_of(r.record_id) IS NOT NULL AND plain_of(r.agent_id) IS NOT NULL AND moment_of(r.timestamp) IS NOT NULL
