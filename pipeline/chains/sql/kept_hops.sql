SELECT hop.*
FROM prev_hops AS hop
SEMI JOIN kept_keys ON kept_keys.tenant_id = hop.tenant_id AND kept_keys.credential_key = hop.child_key
