-- What stays in the outbox, per sink; a sink that answered 410 last is disabled.
SELECT
    waiting.sink,
    count(*) AS deliveries,
    coalesce(any_value(last.last_status) = 410, false) AS disabled
FROM outbox AS waiting
LEFT JOIN (
    SELECT sink, arg_max(status_code, attempted_at) AS last_status
    FROM deliveries
    GROUP BY sink
) AS last ON last.sink = waiting.sink
WHERE waiting.state = 'pending'
GROUP BY waiting.sink
ORDER BY waiting.sink
