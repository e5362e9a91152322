-- Registered names of resource servers as one map, so that lists of names need no join; one
-- server per name, the smallest.
CREATE OR REPLACE TEMP TABLE server_names AS
SELECT map(list(alias ORDER BY alias), list(server ORDER BY alias)) AS server_of
FROM (
    SELECT place_name(alias) AS alias, min(place_name(server)) AS server
    FROM reg_resource_aliases
    GROUP BY place_name(alias)
) AS named
