SELECT tenant_id, event_uid, event_date, call_key, is_primary, observations,
    key_text(credential_key) AS credential_key, method, confidence,
    key_text(candidate_key) AS candidate_key, evidence_class, scope_coverage, missing_scopes
FROM call_link
