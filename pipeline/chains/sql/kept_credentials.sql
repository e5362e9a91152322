SELECT * FROM prev_credentials SEMI JOIN kept_keys USING (tenant_id, credential_key)
