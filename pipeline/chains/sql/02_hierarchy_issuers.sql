SET VARIABLE hierarchy_issuers = (
    SELECT coalesce(list(issuer), []::VARCHAR[]) FROM reg_issuers WHERE has_hierarchy
)
