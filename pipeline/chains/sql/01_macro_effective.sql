-- Effective authority below a hop: the child's own scopes while nothing was widened, else
-- the intersection with what the parent (a refresh: the original grant) is worth.
CREATE OR REPLACE TEMP MACRO effective_after(attenuation, is_refresh, compared_by, scopes, dialect, issuer, audience, widened,
    effective, effective_is_own, grant_effective, grant_is_own) AS CASE
    WHEN attenuation = 'covered' AND (CASE WHEN is_refresh THEN grant_is_own ELSE effective_is_own END)
        THEN authority(scopes)
    -- A consent or a translation brings in scopes that the parent does not list.
    WHEN compared_by IN ('new_consent', 'translation')
        THEN list_filter(authority(scopes), lambda one: NOT list_contains(widened, one))
    WHEN attenuation = 'unknown' THEN authority(scopes)
    ELSE intersect_scopes(dialect, issuer, audience, CASE WHEN is_refresh THEN grant_effective ELSE effective END, authority(scopes))
    END
