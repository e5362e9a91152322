-- Exchanges, which should each say who acts.
SELECT count(*) AS examined FROM hops WHERE hop_kind = 'exchange'
