SELECT
    hop.tenant_id, key_text(child_key) AS child_key, key_text(parent_key) AS parent_key, hop_kind, role, method,
    methods, hop.confidence, hop.evidence_class, delegator, delegate, hop_time, hop.event_uids,
    hop.parent_scopes, hop.child_scopes, widened_scopes, unknown_scopes, attenuation,
    key_text(compared_key) AS compared_key, compared_by AS compared_with, unknown_reason,
    actor_changed, coalesce(subject_changed, false) AS subject_changed
FROM hop
