SET VARIABLE bare_wildcard_issuers = (
    SELECT coalesce(list(issuer), []::VARCHAR[]) FROM reg_issuers WHERE bare_wildcard
)
