-- Calls whose needs could be held against their chain.
SELECT count(*) AS examined
FROM call_links
WHERE is_primary AND scope_coverage IN ('covered', 'not_covered')
