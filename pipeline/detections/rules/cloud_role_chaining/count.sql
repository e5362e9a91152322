-- Assumed roles.
SELECT count(*) AS examined FROM hops WHERE hop_kind = 'assume'
