-- The same subject?  A name means something only with its issuer; a registered identity, or
-- an event that names no issuer, has no namespace and agrees with any.
CREATE OR REPLACE TEMP MACRO same_subject(identity_a, namespace_a, identity_b, namespace_b) AS
    identity_a = identity_b AND (namespace_a IS NULL OR namespace_b IS NULL OR namespace_a = namespace_b)
