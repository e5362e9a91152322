-- Where each event came from and when, small enough to be asked by every rule of a run: keys of
-- 64 bits in place of texts.
CREATE TEMP TABLE IF NOT EXISTS evidence_places AS
SELECT hash(event_uid) AS uid_key, hash(tenant_id, source) AS source_key, event_date FROM tool_calls
UNION ALL
SELECT hash(event_uid), hash(tenant_id, source), event_date FROM token_events
UNION ALL
SELECT hash(event_uid), hash(tenant_id, source), event_date FROM secret_events
