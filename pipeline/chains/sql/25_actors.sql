-- The registered identity behind each acting name; an unregistered name stands for itself.
CREATE OR REPLACE TEMP TABLE actors AS
WITH named AS (
    SELECT seen.acting, coalesce(known.identity_id, seen.acting) AS identity_id
    FROM (SELECT DISTINCT acting FROM cred WHERE acting IS NOT NULL) AS seen
    LEFT JOIN agent_lookup AS known ON known.name = seen.acting
)
SELECT named.acting, named.identity_id, coalesce(identity.pass_through, false) AS pass_through,
    identity.identity_id IS NOT NULL AS registered
FROM named
LEFT JOIN reg_identities AS identity ON identity.identity_id = named.identity_id
