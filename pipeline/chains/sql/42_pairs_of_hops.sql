-- Distinct questions "is this set within that set?"; each is answered once.
CREATE OR REPLACE TEMP TABLE scope_questions AS
SELECT DISTINCT
    dialect, child_issuer AS issuer, parent_issuer AS granted_issuer, parent_audience AS granted_audience,
    child_audience AS asked_audience,
    list_sort(list_distinct(list_concat(parent_scopes, coalesce(consent_scopes, [])))) AS granted,
    child_scopes AS asked
FROM hop_base
WHERE child_known AND parent_known
