-- Hops at which scope may be kept or narrowed, but not widened.
SELECT count(*) AS examined
FROM hops
WHERE hop_kind IN ('exchange', 'assume', 'delegate', 'assertion', 'refresh')
