-- Each credential once, with the set of its ids.
CREATE OR REPLACE TEMP TABLE mentioned AS
SELECT
    credential_key,
    any_value(tenant_id) AS tenant_id,
    -- One row at most has the key of its credential; a null issuer stays null.
    any_value(issuer) FILTER (id_key = credential_key) AS issuer,
    any_value(kind) FILTER (id_key = credential_key) AS kind,
    any_value(id) FILTER (id_key = credential_key) AS id,
    list({'issuer': issuer, 'kind': kind, 'id': id} ORDER BY id_key)
        FILTER (id_key <> credential_key) AS aliases,
    max(reasons) AS alias_conflicts,
    min(first_seen) AS first_seen, max(last_seen) AS last_seen,
    min(first_source) AS first_source,
    min(best_observer) AS best_observer
FROM credential_ids
GROUP BY credential_key
