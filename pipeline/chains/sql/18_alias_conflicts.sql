-- Sets whose members contradict each other in subject, issue time or expiry: the union is
-- refused.  JWT times are whole seconds, hence the second of slack.
CREATE OR REPLACE TEMP TABLE alias_conflicts AS
SELECT
    label,
    list_filter([
        CASE WHEN min(subject_low) <> max(subject_high) THEN 'subject' END,
        CASE WHEN max(issued_high) - min(issued_low) > INTERVAL 1 SECOND THEN 'issued_at' END,
        CASE WHEN max(expires_high) - min(expires_low) > INTERVAL 1 SECOND THEN 'expires_at' END
    ], lambda reason: reason IS NOT NULL) AS reasons
FROM alias_labels
JOIN id_facts USING (id_key)
GROUP BY label
HAVING count(*) > 1 AND len(reasons) > 0
