-- Canonical hops with their three-valued attenuation.
CREATE OR REPLACE TEMP TABLE hop AS
SELECT
    base.*,
    coalesce(answer.attenuation, 'unknown') AS attenuation,
    coalesce(answer.widened, []) AS widened_scopes,
    CASE WHEN base.child_known AND NOT base.parent_known THEN authority(base.child_scopes)
        ELSE coalesce(answer.unclear, []) END AS unknown_scopes,
    CASE
        WHEN answer.attenuation IS NULL AND NOT base.child_known THEN 'child_scopes_unknown'
        WHEN answer.attenuation IS NULL THEN 'parent_scopes_unknown'
        WHEN answer.attenuation = 'unknown' AND NOT answer.is_comparable THEN 'other_audience_without_map'
        WHEN answer.attenuation = 'unknown' THEN 'dialect_cannot_tell'
    END AS unknown_reason,
    CASE
        WHEN base.consent_scopes IS NOT NULL THEN 'new_consent'
        WHEN answer.attenuation IS NOT NULL AND NOT answer.is_comparable AND answer.attenuation <> 'unknown'
            THEN 'translation'
        ELSE base.compared_with
    END AS compared_by
FROM hop_base AS base
LEFT JOIN scope_answers AS answer
    ON base.child_known AND base.parent_known
    AND answer.dialect IS NOT DISTINCT FROM base.dialect
    AND answer.issuer IS NOT DISTINCT FROM base.child_issuer
    AND answer.granted_issuer IS NOT DISTINCT FROM base.parent_issuer
    AND answer.granted_audience = base.parent_audience
    AND answer.asked_audience = base.child_audience
    AND answer.granted = list_sort(list_distinct(list_concat(base.parent_scopes, coalesce(base.consent_scopes, []))))
    AND answer.asked = base.child_scopes
