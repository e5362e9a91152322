-- Start of the union: every id that has an alias is its own set.
CREATE OR REPLACE TEMP TABLE alias_labels AS
SELECT id_key, id_key AS label
FROM (SELECT a AS id_key FROM alias_edges UNION SELECT b FROM alias_edges) AS named
