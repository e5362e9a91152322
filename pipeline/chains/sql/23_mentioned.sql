-- Each credential once, with the set of its ids.
CREATE OR REPLACE TEMP TABLE mentioned AS
SELECT
    credential_key,
    any_value(tenant_id) AS tenant_id,
    arg_min(issuer, (id_key <> credential_key)) AS issuer,
    arg_min(kind, (id_key <> credential_key)) AS kind,
    arg_min(id, (id_key <> credential_key)) AS id,
    list({'issuer': issuer, 'kind': kind, 'id': id} ORDER BY id_key)
        FILTER (id_key <> credential_key) AS aliases,
    max(reasons) AS alias_conflicts,
    min(first_seen) AS first_seen, max(last_seen) AS last_seen,
    min(first_source) AS first_source,
    min(best_observer) AS best_observer
FROM credential_ids
GROUP BY credential_key
