-- Scopes that are authority: the protocol's own are compared separately, and of them only
-- offline_access matters (domain reference 3.1.2).
CREATE OR REPLACE TEMP MACRO authority(scopes) AS
    list_filter(scopes, lambda scope: scope NOT IN ('openid', 'profile', 'email', 'address', 'phone'))
