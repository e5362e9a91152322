-- Grants that make a token from another one, by their full or their short name.
CREATE OR REPLACE TEMP MACRO is_derived_grant(grant_type) AS coalesce(
    lower(grant_type) IN ('refresh_token', 'token-exchange', 'token_exchange',
        'urn:ietf:params:oauth:grant-type:token-exchange'), false)
