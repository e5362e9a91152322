-- Credentials that were made from another one.
SELECT count(*) AS examined FROM hops WHERE hop_kind IN ('exchange', 'assume', 'delegate', 'assertion')
