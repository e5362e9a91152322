SELECT DISTINCT key_text(id_key) AS alias_key FROM ids
