-- Findings about which there may be something to tell: open ones of weight, and
-- whatever a sink has been told about.
SELECT finding.*
FROM findings AS finding
WHERE (finding.status = 'open' AND finding.severity >= $min_severity)
   OR finding.finding_id IN (SELECT finding_id FROM outbox)
ORDER BY finding.detected_at, finding.finding_id
