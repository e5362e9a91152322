-- Transitive closure of the registered implications; '*' stands for any issuer or audience,
-- '' for a credential that names none: it may be meant for any.
SET VARIABLE implications = (
    WITH RECURSIVE registered AS (
        SELECT coalesce(issuer, '*') AS issuer, coalesce(audience, '*') AS audience, scope, implies
        FROM reg_scope_implications
    ),
    implied AS (
        SELECT issuer, audience, scope, implies FROM registered
        UNION
        -- Two implications join where one issuer and one audience satisfy both.
        SELECT
            CASE WHEN implied.issuer = '*' THEN further.issuer ELSE implied.issuer END,
            CASE WHEN implied.audience = '*' THEN further.audience ELSE implied.audience END,
            implied.scope, further.implies
        FROM implied
        JOIN registered AS further
            ON further.scope = implied.implies
            AND (further.issuer = implied.issuer OR '*' IN (further.issuer, implied.issuer))
            AND (further.audience = implied.audience OR '*' IN (further.audience, implied.audience))
    )
    SELECT coalesce(list(DISTINCT concat(issuer, chr(31), place, chr(31), scope, chr(31), implies)), []::VARCHAR[])
    FROM (
        SELECT issuer, audience AS place, scope, implies FROM implied
        UNION ALL
        SELECT issuer, '', scope, implies FROM implied
    ) AS placed
)
