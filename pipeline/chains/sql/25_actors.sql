-- The registered identity behind each acting name; an unregistered name stands for itself.
CREATE OR REPLACE TEMP TABLE actors AS
SELECT named.acting, coalesce(min(known.identity_id), named.acting) AS identity_id,
    bool_or(coalesce(identity.pass_through, false)) AS pass_through,
    count(identity.identity_id) > 0 AS registered
FROM (SELECT DISTINCT acting FROM cred WHERE acting IS NOT NULL) AS named
LEFT JOIN identity_lookup AS known ON known.subject = named.acting
LEFT JOIN reg_identities AS identity ON identity.identity_id = known.identity_id OR identity.identity_id = named.acting
GROUP BY named.acting
