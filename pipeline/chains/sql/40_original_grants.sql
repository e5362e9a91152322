-- A refresh is compared with the original grant: regaining what an earlier refresh narrowed
-- is legal (RFC 6749 section 6).
CREATE OR REPLACE TEMP TABLE original_grants AS
WITH RECURSIVE refreshes AS (
    SELECT links.child_key, links.parent_key
    FROM links JOIN cred ON cred.credential_key = links.child_key
    WHERE links.role = 'refresh' OR links.method = 'P4' OR cred.issue_op = 'refresh'
),
walk AS (
    SELECT child_key, parent_key AS grant_key
    FROM refreshes
    WHERE parent_key NOT IN (SELECT child_key FROM refreshes)
    UNION ALL
    SELECT refreshes.child_key, walk.grant_key
    FROM walk JOIN refreshes ON refreshes.parent_key = walk.child_key
)
SELECT * FROM walk
