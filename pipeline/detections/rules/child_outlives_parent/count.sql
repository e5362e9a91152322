-- Exchanges and delegations.
SELECT count(*) AS examined FROM hops WHERE hop_kind IN ('exchange', 'delegate')
