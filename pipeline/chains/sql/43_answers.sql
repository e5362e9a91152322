-- covered, not_covered or unknown, scope by scope, for every distinct question.
CREATE OR REPLACE TEMP TABLE scope_answers AS
WITH numbered AS (
    SELECT *, row_number() OVER () AS question,
        comparable(granted_issuer, granted_audience, issuer, asked_audience) AS is_comparable
    FROM scope_questions
),
-- Another audience goes through the translation table: what the granted side is worth there,
-- and which scopes the table speaks of at all.
translated AS (
    SELECT question, map.to_scope AS scope,
        bool_or(len(list_filter(granted, lambda g: covers(dialect, granted_issuer, granted_audience, g, map.from_scope) = 2)) > 0) AS held
    FROM numbered
    JOIN reg_scope_maps AS map
        ON (map.from_issuer IS NULL OR map.from_issuer = granted_issuer)
        AND (map.to_issuer IS NULL OR map.to_issuer = issuer)
        AND (map.from_audience IS NULL OR list_contains(granted_audience, map.from_audience))
        AND (map.to_audience IS NULL OR list_contains(asked_audience, map.to_audience))
    WHERE NOT is_comparable
    GROUP BY question, map.to_scope
),
asked_scopes AS (
    SELECT question, dialect, issuer, granted, is_comparable,
        CASE WHEN len(asked_audience) > 0 THEN asked_audience ELSE granted_audience END AS place,
        unnest(authority(asked)) AS scope
    FROM numbered
),
judged AS (
    SELECT
        asked_scopes.question, asked_scopes.scope,
        CASE
            WHEN is_comparable THEN coalesce(list_max(list_transform(granted,
                lambda g: covers(dialect, issuer, place, g, asked_scopes.scope))), 0)
            WHEN translated.held THEN 2
            WHEN translated.held IS NOT NULL THEN 0
            ELSE 1
        END AS answer
    FROM asked_scopes
    LEFT JOIN translated ON translated.question = asked_scopes.question AND translated.scope = asked_scopes.scope
),
summed AS (
    SELECT question,
        list(scope ORDER BY scope) FILTER (answer = 0) AS widened,
        list(scope ORDER BY scope) FILTER (answer = 1) AS unclear
    FROM judged
    GROUP BY question
)
SELECT
    numbered.* EXCLUDE (question),
    coalesce(widened, []) AS widened,
    coalesce(unclear, []) AS unclear,
    CASE WHEN len(widened) > 0 THEN 'not_covered' WHEN len(unclear) > 0 THEN 'unknown' ELSE 'covered' END
        AS attenuation
FROM numbered
LEFT JOIN summed USING (question)
