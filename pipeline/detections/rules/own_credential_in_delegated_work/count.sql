-- Calls on standing credentials whose needs are known.
SELECT count(*) AS examined
FROM calls
WHERE root_kind IN ('client_credentials', 'static_secret', 'workload_attested') AND array_length(required_scopes) > 0
