-- Every state of every registered identity; the ends of time are such that any engine takes them.
SELECT
    identity_id,
    greatest(valid_from, TIMESTAMPTZ '1970-01-01 00:00:00+00') AS valid_from,
    valid_to,
    kind,
    class,
    status,
    environment,
    trust_domain,
    owner_iam,
    owner_platform,
    owner_application,
    vendor_hosted,
    is_broker,
    expected_tools,
    expected_audiences,
    scope_ceiling,
    max_depth,
    max_fanout,
    max_ttl_s,
    static_secret_allowed
FROM reg_identities_as_of
ORDER BY identity_id, valid_from
