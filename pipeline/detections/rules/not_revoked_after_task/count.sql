-- Credentials that live long enough to need a revocation.
SELECT count(*) AS examined
FROM credentials
WHERE seen_issued AND (never_expires OR epoch(expires_at) - epoch(issued_at) > $short_life_s)
