-- What the statements of the build share.  Lengths in front keep a key unambiguous, whatever
-- characters an attacker puts into an id; SHA-256 keeps them from making two ids collide.
CREATE OR REPLACE TEMP MACRO id_key(tenant_id, issuer, kind, id) AS substr(sha256(concat(
    strlen(tenant_id), ':', tenant_id, strlen(coalesce(issuer, '')), ':', issuer,
    strlen(kind), ':', kind, strlen(id), ':', id)), 1, 32)::UUID
