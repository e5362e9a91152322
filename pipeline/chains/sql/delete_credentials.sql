SELECT DISTINCT prev.credential_key
FROM prev_credential_aliases AS prev
WHERE prev.alias_key IN (SELECT key_text(id_key) FROM ids)
