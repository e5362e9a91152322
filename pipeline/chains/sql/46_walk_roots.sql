-- Where walks start: every credential without a canonical parent.
CREATE OR REPLACE TEMP TABLE walk_roots AS
SELECT credential_key FROM cred
WHERE credential_key NOT IN (SELECT child_key FROM links)
