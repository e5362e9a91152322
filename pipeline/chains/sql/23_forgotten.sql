-- When a credential was issued whose issuance has left the lake by retention: an earlier build
-- knew it.  Only what is older than all that is left of the tenant; nothing else may depend
-- on what an earlier build said.
CREATE OR REPLACE TEMP TABLE forgotten AS
SELECT mentioned.credential_key, before.issued_at
FROM mentioned
JOIN prev_credentials AS before ON before.credential_key = key_text(mentioned.credential_key)
JOIN (SELECT tenant_id, min(first_event_time) AS oldest FROM watermarks_now GROUP BY tenant_id) AS lake
    ON lake.tenant_id = mentioned.tenant_id
WHERE before.issued_at < lake.oldest
