-- Hops, each of which may lead into another domain.
SELECT count(*) AS examined FROM hops
