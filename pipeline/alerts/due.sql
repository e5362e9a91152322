-- Deliveries whose time has come, oldest first; a sink that answered 410 last gets
-- nothing until a test of it succeeds.
SELECT waiting.*
FROM outbox AS waiting
LEFT JOIN (
    SELECT sink, arg_max(status_code, attempted_at) AS last_status
    FROM deliveries
    GROUP BY sink
) AS last ON last.sink = waiting.sink
WHERE waiting.state = 'pending'
  AND waiting.next_attempt_at <= $now
  AND last.last_status IS DISTINCT FROM 410
ORDER BY waiting.next_attempt_at, waiting.created_at, waiting.delivery_id
