SELECT
    choice.tenant_id, key_text(child_key) AS child_key, key_text(parent_key) AS parent_key,
    coalesce(child.issue_op, 'issue') AS hop_kind, role, method, methods, choice.confidence,
    choice.evidence_class, delegator, delegate, hop_time, choice.event_uids,
    CASE
        WHEN cut.child_key IS NOT NULL AND place = 1 THEN 'cut_cycle'
        WHEN refused IS NOT NULL THEN refused
        WHEN choice.confidence >= best_confidence - 0.10 AND role_rank(role) = best_role THEN 'ambiguous'
        ELSE 'weaker'
    END AS reason
FROM parent_choice AS choice
JOIN cred AS child ON child.credential_key = choice.child_key
LEFT JOIN cycle_cuts AS cut USING (child_key)
WHERE place > 1 OR refused IS NOT NULL OR cut.child_key IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY choice.child_key, choice.parent_key ORDER BY place) = 1
