-- Where the scope starts: what is new, and what waits for a verdict.
CREATE OR REPLACE TEMP TABLE scope_keys AS
SELECT DISTINCT key FROM item_keys
WHERE event_uid IN (SELECT event_uid FROM fresh_uids)
UNION
SELECT hash(alias.tenant_id, alias.kind, alias.id)
FROM prev_credential_aliases AS alias
JOIN prev_chains AS chain ON chain.credential_key = alias.credential_key
WHERE list_contains($waiting, chain.end_kind)
