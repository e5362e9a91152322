-- One row per id; the kind decides which id names an alias set.
CREATE OR REPLACE TEMP TABLE ids AS
SELECT
    id_key,
    any_value(tenant_id) AS tenant_id,
    -- An empty issuer names none, and has the same key.
    any_value(nullif(issuer, '')) AS issuer, any_value(kind) AS kind, any_value(id) AS id,
    bool_or(is_issue) AS seen_issued,
    min(event_time) AS first_seen, max(event_time) AS last_seen,
    min(source) AS first_source,
    min(observer) AS best_observer
FROM mentions
GROUP BY id_key
