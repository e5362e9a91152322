-- Credentials whose issuance was seen.
SELECT count(*) AS examined FROM credentials WHERE seen_issued
