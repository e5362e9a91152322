-- What a person consented to, by consent: a wider token after it is not a widening.
CREATE OR REPLACE TEMP TABLE consents AS
SELECT tenant_id, consent_id, list_sort(list_distinct(flatten(list(scopes)))) AS scopes,
    min(event_time) AS granted_at, list(event_uid ORDER BY event_uid) AS event_uids
FROM tok
WHERE consent_id IS NOT NULL AND outcome = 'success'
    AND (op = 'consent_grant' OR (op = 'issue' AND is_interactive(grant_type)))
GROUP BY tenant_id, consent_id
