-- Calls and exchanges that show who presented a credential of a known party.
SELECT
    (SELECT count(*) FROM calls WHERE link_method IN ('T1', 'T2', 'T3'))
    + (SELECT count(*) FROM hops WHERE hop_kind IN ('exchange', 'refresh')) AS examined
