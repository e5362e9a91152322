-- Findings of this rule, inside the window, that this run no longer returned.
--
-- An absence rule says nothing about what lies behind its watermark, and a look
-- at an earlier moment says nothing about what a later one found.
SELECT
    stored.* EXCLUDE (suppressed_by),
    CAST(NULL AS VARCHAR) AS suppressed_by,
    CASE
        WHEN stored.rule_version IS DISTINCT FROM $rule_version THEN 'rule_changed'
        WHEN stored.policy_version IS DISTINCT FROM $policy_version THEN 'policy_changed'
        WHEN $when_gone = 'resolved' THEN 'condition_ended'
        ELSE 'refuted_by_late_evidence'
    END AS reason
FROM stored
ANTI JOIN returned USING (finding_id)
LEFT JOIN rule_watermarks USING (tenant_id)
WHERE stored.status IN ('open', 'suppressed', 'accepted')
    AND coalesce(stored.last_seen >= $from AND stored.last_seen < $to, true)
    AND stored.updated_at <= $now
    AND (NOT $is_absence OR coalesce(stored.first_seen < rule_watermarks.watermark, false))
ORDER BY finding_id
