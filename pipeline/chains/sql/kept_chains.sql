SELECT * FROM prev_chains SEMI JOIN kept_keys USING (tenant_id, credential_key)
