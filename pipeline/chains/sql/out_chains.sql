SELECT
    chain.tenant_id, key_text(chain.credential_key) AS credential_key, key_text(root_key) AS root_key,
    root_kind, root_principal, root_principal_issuer, depth, links, actor_path,
    list_transform(credential_path, lambda one: key_text(one)) AS credential_path,
    root_scopes, root_scope_known, root_max_depth, beyond_root_scopes, root_attenuation,
    effective AS effective_scopes, effective_known AS effective_scope_known, effective_expires_at,
    key_text(revoked_ancestor_key) AS revoked_ancestor_key, end_kind, status, confidence, confidence_product,
    CASE WHEN status = 'cyclic' THEN coalesce(gap_kind, 'missing_parent_id') WHEN end_kind IN ('broken', 'pending') THEN gap_kind END AS gap_kind,
    CASE WHEN end_kind IN ('broken', 'pending') THEN key_text(root_key) END AS gap_key,
    unknown_count, alternatives, trust_domains
FROM chain
LEFT JOIN beyond_root USING (credential_key)
