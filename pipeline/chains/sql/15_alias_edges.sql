-- Pairs of ids that one event shows as the same credential.
CREATE OR REPLACE TEMP TABLE alias_edges AS
SELECT DISTINCT own_id_key AS a, id_key(tenant_id, alias.issuer, alias.kind, alias.id) AS b
FROM (
    SELECT tok.*, unnest(credential_aliases) AS alias
    FROM tok WHERE own_id_key IS NOT NULL AND outcome = 'success'
) AS unnested
WHERE own_id_key <> id_key(tenant_id, alias.issuer, alias.kind, alias.id)
UNION
-- A mention without issuer is the one id of that kind and text in the tenant, if there is
-- exactly one; two issuers with the same id stay apart.
SELECT bare.id_key, min(full_id.id_key)
FROM ids AS bare
JOIN ids AS full_id ON full_id.tenant_id = bare.tenant_id AND full_id.kind = bare.kind
    AND full_id.id = bare.id AND full_id.issuer IS NOT NULL
WHERE bare.issuer IS NULL
GROUP BY bare.id_key
HAVING count(*) = 1
