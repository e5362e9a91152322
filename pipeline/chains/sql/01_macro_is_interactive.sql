-- Grants at which a person is present (RFC 6749 section 4.1, RFC 8628, OpenID CIBA), as servers
-- and their logs spell them.
CREATE OR REPLACE TEMP MACRO is_interactive(grant_type) AS coalesce(
    lower(grant_type) IN ('authorization_code', 'authorization-code', 'implicit', 'hybrid', 'password',
        'device', 'device_code', 'ciba', 'interactive',
        'urn:ietf:params:oauth:grant-type:device_code', 'urn:openid:params:grant-type:ciba'), false)
