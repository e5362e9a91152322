-- The canonical link of each child, with how many others come within 0.10 of it and whether
-- believed sources name another parent in the same role.
CREATE OR REPLACE TEMP TABLE links AS
SELECT
    child_key, parent_key, tenant_id, role, method, methods, confidence, evidence_class,
    event_uids, hop_time, delegator, delegate,
    coalesce(others.alternatives, 0) AS alternatives,
    coalesce(others.contradicted, false) AS contradicted
FROM parent_choice AS chosen
LEFT JOIN (
    SELECT child_key,
        -- More than one role is not ambiguity: lineage follows the subject.
        count(*) FILTER (confidence >= best_confidence - 0.10
            AND best_class NOT IN ('cryptographic', 'issuer_asserted')
            AND role_rank(role) = best_role) AS alternatives,
        bool_or(role_rank(role) = best_role AND evidence_class_rank(evidence_class) >= 2) AS contradicted
    FROM parent_choice
    WHERE place > 1 AND refused IS NULL AND parent_key <> best_parent
    GROUP BY child_key
) AS others USING (child_key)
WHERE chosen.place = 1 AND chosen.refused IS NULL
