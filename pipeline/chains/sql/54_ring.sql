-- The members of all cycles, each pointing at its parent, with the smallest key seen so far.
CREATE OR REPLACE TEMP TABLE ring AS
SELECT links.child_key AS here, links.parent_key AS there, links.child_key AS label
FROM links
WHERE links.child_key IN (SELECT there FROM jump)
