-- Every id that an event in scope mentions.
CREATE OR REPLACE TEMP TABLE mentions AS
SELECT tenant_id, own_id_key AS id_key, credential_issuer AS issuer, credential_kind AS kind,
    credential_id AS id, event_time, source, observer, evidence_rank, is_issue
FROM tok WHERE own_id_key IS NOT NULL
UNION ALL
SELECT tenant_id, id_key(tenant_id, alias.issuer, alias.kind, alias.id), alias.issuer, alias.kind,
    alias.id, event_time, source, observer, evidence_rank, false
FROM (SELECT tok.*, unnest(credential_aliases) AS alias FROM tok) AS unnested
UNION ALL
SELECT tenant_id, id_key(tenant_id, parent.issuer, parent.kind, parent.id), parent.issuer,
    parent.kind, parent.id, event_time, source, observer, evidence_rank, false
FROM (SELECT tok.*, unnest(parents) AS parent FROM tok WHERE is_issue) AS unnested
UNION ALL
SELECT tenant_id, own_id_key, credential_issuer, credential_kind, credential_id, event_time,
    source, observer, evidence_rank, false
FROM obs WHERE own_id_key IS NOT NULL
