-- Each credential against its root grant.
CREATE OR REPLACE TEMP TABLE beyond_root AS
SELECT
    chain.credential_key,
    CASE WHEN links = 0 THEN CASE WHEN scope_known THEN 'covered' ELSE 'unknown' END
        -- Covered at every hop is covered by the root, also through tables that do not reach it.
        WHEN coalesce(answer.attenuation, 'unknown') = 'unknown' AND effective_is_own AND effective_known THEN 'covered'
        ELSE coalesce(answer.attenuation, 'unknown') END AS root_attenuation,
    coalesce(answer.widened, []) AS beyond_root_scopes
FROM chain
LEFT JOIN scope_answers AS answer
    ON links > 0 AND scope_known AND root_scope_known
    AND answer.dialect IS NOT DISTINCT FROM chain.dialect
    AND answer.issuer IS NOT DISTINCT FROM chain.issuer
    AND answer.granted_issuer IS NOT DISTINCT FROM chain.root_issuer
    AND answer.granted_audience = chain.root_audience
    AND answer.asked_audience = chain.audience
    AND answer.granted = list_sort(list_distinct(list_concat(chain.root_scopes, chain.consent_scopes)))
    AND answer.asked = chain.scopes
