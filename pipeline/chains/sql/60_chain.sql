-- One row per credential: its walk, judged.
CREATE OR REPLACE TEMP TABLE chain AS
SELECT
    walk.* EXCLUDE (consented), cred.tenant_id,
    root.subject_id AS root_subject, root.user_agent_id AS root_user,
    coalesce(root.subject_id, root.client_id, root.user_agent_id) AS root_principal,
    CASE WHEN root.subject_id IS NOT NULL THEN root.subject_issuer WHEN root.client_id IS NOT NULL THEN root.issuer
        ELSE root.user_agent_issuer END AS root_principal_issuer,
    coalesce(top.root_kind, 'unknown') AS root_kind,
    coalesce(top.end_kind, 'broken') AS end_kind, top.gap_kind,
    root.scopes AS root_scopes, root.scope_known AS root_scope_known, root.max_depth AS root_max_depth,
    root.issuer AS root_issuer, root.audience AS root_audience,
    walk.consented AS consent_scopes,
    cred.scopes, cred.scope_known, coalesce(cred.scope_dialect, root.scope_dialect) AS dialect,
    cred.issuer, cred.audience,
    cut.child_key IS NOT NULL OR coalesce(top.names_itself, false) AS is_cyclic,
    CASE
        WHEN cut.child_key IS NOT NULL OR coalesce(top.names_itself, false) THEN 'cyclic'
        WHEN walk.contradicted THEN 'contradictory'
        WHEN top.end_kind IN ('broken', 'pending', 'retention_truncated', 'unknown_root') THEN top.end_kind
        WHEN walk.alternatives > 0 THEN 'ambiguous'
        WHEN walk.erased THEN 'impersonated'
        WHEN top.end_kind = 'boundary' THEN 'complete_to_boundary'
        WHEN walk.confidence >= 0.80 THEN 'complete'
        ELSE 'complete_probable'
    END AS status
FROM walk
JOIN cred ON cred.credential_key = walk.credential_key
JOIN cred AS root ON root.credential_key = walk.root_key
LEFT JOIN ends AS top ON top.credential_key = walk.root_key
LEFT JOIN cycle_cuts AS cut ON cut.child_key = walk.root_key
