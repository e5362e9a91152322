-- P1, P2, P3, P5: the parent that an event names.
CREATE OR REPLACE TEMP TABLE explicit_parents AS
WITH named AS (
    SELECT own.credential_key AS child_key, parent.role, parent.kind AS parent_kind,
        id_key(tenant_id, parent.issuer, parent.kind, parent.id) AS parent_id_key,
        evidence_class, evidence_rank, event_uid, op
    FROM (SELECT own_events.*, unnest(parents) AS parent FROM own_events WHERE is_issue) AS own
)
SELECT
    named.child_key, target.credential_key AS parent_key, named.role,
    CASE
        WHEN named.role = 'delegation' THEN 'P5'
        WHEN evidence_rank < 2 THEN 'P5'
        WHEN parent_kind = 'par_hash' THEN 'P1'
        WHEN parent_kind IN ('access_key_id', 'vault_accessor', 'k8s_credential_id', 'uti') THEN 'P3'
        ELSE 'P2'
    END AS method,
    CASE
        WHEN evidence_rank < 2 THEN 0.70
        WHEN named.role = 'delegation' THEN 0.90
        WHEN parent_kind IN ('access_key_id', 'vault_accessor', 'k8s_credential_id', 'uti') THEN 0.98
        WHEN evidence_rank = 2 THEN 0.90
        ELSE 1.00
    END AS confidence,
    CASE WHEN parent_kind = 'par_hash' AND evidence_rank = 3 THEN 'cryptographic' ELSE evidence_class END
        AS evidence_class,
    event_uid
FROM named
JOIN credential_ids AS target ON target.id_key = named.parent_id_key
