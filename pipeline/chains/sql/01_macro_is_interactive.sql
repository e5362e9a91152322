-- Grants at which a person is present (RFC 6749 section 4.1, RFC 8628, OpenID CIBA).
CREATE OR REPLACE TEMP MACRO is_interactive(grant_type) AS coalesce(
    grant_type IN ('authorization_code', 'implicit', 'password', 'device', 'device_code', 'ciba', 'interactive',
        'urn:ietf:params:oauth:grant-type:device_code', 'urn:openid:params:grant-type:ciba'), false)
