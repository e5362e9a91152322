-- Credentials of which retention has taken every event: what was once derived stays.
CREATE OR REPLACE TEMP TABLE kept_keys AS
SELECT before.tenant_id, before.credential_key
FROM prev_credentials AS before
LEFT JOIN (SELECT tenant_id, min(first_event_time) AS oldest FROM watermarks_now GROUP BY tenant_id) AS lake USING (tenant_id)
WHERE coalesce(before.last_seen < lake.oldest, lake.oldest IS NULL)
    AND before.credential_key NOT IN (SELECT key_text(credential_key) FROM cred)
