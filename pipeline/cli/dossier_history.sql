SELECT changed_at, change, reason, changed_by, accepted_until, severity, status
FROM finding_history
WHERE finding_id = $id
ORDER BY changed_at, change <> 'created', change_id
