-- What no top leads to lies on a cycle or below one: labelled, never left out.
CREATE OR REPLACE TEMP TABLE jump AS
SELECT child_key AS here, parent_key AS there
FROM links
WHERE child_key NOT IN (SELECT credential_key FROM walk)
