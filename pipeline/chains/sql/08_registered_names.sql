-- Every name that the registry knows.
CREATE OR REPLACE TEMP TABLE registered_names AS
SELECT DISTINCT name, true AS registered
FROM (SELECT subject AS name FROM reg_aliases UNION SELECT identity_id FROM reg_identities) AS named
