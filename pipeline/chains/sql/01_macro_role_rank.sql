-- Lineage follows the subject; a refresh names its grant last.
CREATE OR REPLACE TEMP MACRO role_rank(role) AS CASE role
    WHEN 'subject' THEN 0 WHEN 'source' THEN 1 WHEN 'assertion' THEN 2 WHEN 'delegation' THEN 3
    WHEN 'refresh' THEN 4 WHEN 'actor' THEN 9 ELSE 5 END
