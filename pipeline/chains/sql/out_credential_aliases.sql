SELECT tenant_id, key_text(id_key) AS alias_key, key_text(credential_key) AS credential_key, issuer, kind, id
FROM credential_ids
