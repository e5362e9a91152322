-- Transitive closure of the registered implications; '*' stands for any issuer.
SET VARIABLE implications = (
    WITH RECURSIVE implied AS (
        SELECT coalesce(issuer, '*') AS issuer, scope, implies FROM reg_scope_implications
        UNION
        SELECT implied.issuer, implied.scope, further.implies
        FROM implied
        JOIN reg_scope_implications AS further
            ON further.scope = implied.implies AND coalesce(further.issuer, '*') IN (implied.issuer, '*')
    )
    SELECT coalesce(list(concat(issuer, chr(31), scope, chr(31), implies)), []::VARCHAR[]) FROM implied
)
