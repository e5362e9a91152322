-- Required scopes against the chain, answered once per distinct question.  What the credential
-- itself does not allow, or its root never granted, the chain cannot allow either, even where a
-- hop between them is unknown.
CREATE OR REPLACE TEMP TABLE call_coverage AS
WITH asked AS (
    SELECT DISTINCT call_facts.required_scopes, chain.effective, chain.effective_known,
        authority(chain.scopes) AS own, chain.scope_known, chain.dialect, chain.issuer, chain.audience,
        beyond_root.beyond_root_scopes
    FROM call_facts
    JOIN call_choice AS choice ON choice.call_key = call_facts.call_key AND choice.place = 1 AND choice.confidence >= 0.60
    JOIN chain ON chain.credential_key = choice.credential_key
    JOIN beyond_root ON beyond_root.credential_key = choice.credential_key
    WHERE len(call_facts.required_scopes) > 0
),
judged AS (
    SELECT *,
        list_filter(authority(required_scopes), lambda need: (NOT effective_known AND list_contains(beyond_root_scopes, need))
            OR coalesce(list_max(list_transform(
                own, lambda held: covers(dialect, issuer, audience, held, need))), 0) = 0) AS lacking_own,
        list_filter(authority(required_scopes), lambda need: coalesce(list_max(list_transform(
            effective, lambda held: covers(dialect, issuer, audience, held, need))), 0) = 0) AS lacking_effective,
        list_filter(authority(required_scopes), lambda need: coalesce(list_max(list_transform(
            effective, lambda held: covers(dialect, issuer, audience, held, need))), 0) = 1) AS unclear
    FROM asked
)
SELECT *,
    CASE
        WHEN effective_known AND len(lacking_effective) > 0 THEN 'not_covered'
        WHEN scope_known AND len(lacking_own) > 0 THEN 'not_covered'
        WHEN effective_known AND len(unclear) = 0 THEN 'covered'
        ELSE 'unknown'
    END AS scope_coverage,
    CASE WHEN effective_known THEN lacking_effective WHEN scope_known THEN lacking_own ELSE [] END AS missing_scopes
FROM judged
