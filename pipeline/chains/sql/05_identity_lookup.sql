-- Registered aliases; '*' stands for any issuer.  One identity per name, the smallest, so
-- that a careless registry cannot multiply rows.
CREATE OR REPLACE TEMP TABLE identity_lookup AS
SELECT coalesce(issuer, '*') AS issuer, subject, min(identity_id) AS identity_id
FROM reg_aliases
GROUP BY coalesce(issuer, '*'), subject
