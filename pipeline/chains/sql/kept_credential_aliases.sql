SELECT * FROM prev_credential_aliases SEMI JOIN kept_keys USING (tenant_id, credential_key)
