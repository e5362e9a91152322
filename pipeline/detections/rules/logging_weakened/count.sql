-- Successful calls that change something.
SELECT count(*) AS examined
FROM calls
WHERE outcome = 'success' AND coalesce(action_class, 'write') NOT IN ('read', 'secret_read')
