SELECT
    cred.tenant_id, key_text(cred.credential_key) AS credential_key, cred.issuer, cred.kind, cred.id,
    cred.aliases, cred.alias_conflicts, cred.subject_id, cred.subject_issuer, cred.subject_kind,
    coalesce(cred.actor_id, cred.act_chain[1].subject) AS actor_id,
    CASE WHEN cred.actor_id IS NOT NULL THEN cred.actor_issuer ELSE cred.act_chain[1].issuer END AS actor_issuer,
    cred.actor_convention, cred.client_id, cred.act_chain, cred.act_truncated,
    cred.act_malformed_reason, cred.may_act, cred.token_type, cred.grant_type, cred.scopes,
    cred.scope_known, cred.requested_scopes, cred.scope_dialect, cred.audience, cred.issued_at,
    cred.not_before, cred.expires_at, cred.never_expires, cred.auth_time,
    least(revoked.revoked_at, chain.cascade_revoked_at) AS revoked_at,
    revoked.revoke_target, revoked.revoke_reason, cred.cnf_thumbprint, cred.family_id,
    cred.consent_id, cred.max_depth, cred.trust_domain, cred.environment, cred.business_unit,
    cred.from_trust_domain, cred.to_trust_domain, cred.delegation_record_id,
    cred.instruction_source, cred.issue_op, cred.seen_issued, cred.is_static,
    key_text(links.parent_key) AS parent_key, key_text(chain.root_key) AS root_key,
    cred.first_seen, cred.last_seen,
    least(uses.first_use, cred.first_event_use) AS first_used_at,
    greatest(uses.last_use, cred.last_event_use) AS last_used_at,
    coalesce(uses.uses, 0) + cred.event_uses AS use_count,
    cred.evidence_class, cred.observer, cred.source,
    list_sort(list_concat(cred.conflicts, CASE WHEN links.contradicted THEN ['parent'] ELSE []::VARCHAR[] END)) AS conflicts,
    -- The revocation of a family or a client is evidence about each of its credentials.
    list_slice(list_distinct(list_concat(cred.event_uids, coalesce(revoked.event_uids, []))), 1, 50) AS event_uids
FROM cred
LEFT JOIN chain USING (credential_key)
LEFT JOIN links ON links.child_key = cred.credential_key
LEFT JOIN revocations AS revoked ON revoked.credential_key = cred.credential_key
LEFT JOIN uses ON uses.credential_key = cred.credential_key
