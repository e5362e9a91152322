-- Hops that must keep the subject, and calls that name their credential.
SELECT
    (SELECT count(*) FROM hops WHERE hop_kind IN ('exchange', 'refresh', 'delegate', 'assertion', 'issue', 'rotate'))
    + (SELECT count(*) FROM calls WHERE link_method IN ('T1', 'T2', 'T3')) AS examined
