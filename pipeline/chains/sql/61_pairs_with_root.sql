-- The same questions, of each credential against its root grant.
CREATE OR REPLACE TEMP TABLE scope_questions AS
SELECT DISTINCT dialect, issuer, root_issuer AS granted_issuer, root_audience AS granted_audience,
    audience AS asked_audience,
    list_sort(list_distinct(list_concat(root_scopes, consent_scopes))) AS granted, scopes AS asked
FROM chain
WHERE scope_known AND root_scope_known AND links > 0
