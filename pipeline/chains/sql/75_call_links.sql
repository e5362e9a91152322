-- One row per observation, with the verdict of its call.
CREATE OR REPLACE TEMP TABLE call_link AS
SELECT
    obs.tenant_id, obs.event_uid, obs.event_date, obs.call_key,
    obs.event_uid = facts.primary_uid AS is_primary, facts.observations,
    CASE WHEN best.confidence >= 0.60 THEN best.credential_key END AS credential_key,
    best.method, coalesce(best.confidence, 0) AS confidence,
    CASE WHEN best.confidence < 0.60 THEN best.credential_key END AS candidate_key,
    best.evidence_class,
    CASE WHEN len(facts.required_scopes) = 0 OR best.confidence IS NULL OR best.confidence < 0.60 THEN NULL
        ELSE coalesce(coverage.scope_coverage, 'unknown') END AS scope_coverage,
    coalesce(coverage.missing_scopes, []) AS missing_scopes,
    facts.event_time, facts.succeeded
FROM keyed_obs AS obs
JOIN call_facts AS facts USING (call_key)
LEFT JOIN call_choice AS best ON best.call_key = obs.call_key AND best.place = 1
LEFT JOIN chain ON chain.credential_key = best.credential_key AND best.confidence >= 0.60
LEFT JOIN beyond_root ON beyond_root.credential_key = chain.credential_key
LEFT JOIN call_coverage AS coverage
    ON coverage.required_scopes = facts.required_scopes
    AND coverage.effective IS NOT DISTINCT FROM chain.effective
    AND coverage.effective_known = chain.effective_known
    AND coverage.own = authority(chain.scopes) AND coverage.scope_known = chain.scope_known
    AND coverage.dialect IS NOT DISTINCT FROM chain.dialect
    AND coverage.issuer IS NOT DISTINCT FROM chain.issuer
    AND coverage.audience = chain.audience
    AND coverage.beyond_root_scopes = beyond_root.beyond_root_scopes
