-- Names of registered gateways and sidecars: in an actor chain they count for nobody.
SET VARIABLE gateways = (
    SELECT coalesce(list(name), []::VARCHAR[])
    FROM (
        SELECT known.name FROM agent_lookup AS known
        JOIN reg_identities AS identity ON identity.identity_id = known.identity_id
        WHERE identity.pass_through
        UNION
        SELECT identity_id FROM reg_identities WHERE pass_through
    )
)
