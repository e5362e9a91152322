-- Calls whose needs could be held against their chain.
SELECT count(*) AS examined FROM calls WHERE scope_coverage IN ('covered', 'not_covered')
