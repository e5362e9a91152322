-- Sources that may still bring events of the finding's time.
SELECT source, observer, watermark, last_event_time
FROM watermarks
WHERE tenant_id = $tenant_id
    AND watermark < $last_seen::TIMESTAMPTZ
    AND (
        len($sources::VARCHAR[]) = 0
        OR (has_tool_calls AND list_contains($sources::VARCHAR[], 'tool_call'))
        OR (has_token_events AND list_contains($sources::VARCHAR[], 'token_event'))
        OR (has_secret_events AND list_contains($sources::VARCHAR[], 'secret_event'))
    )
ORDER BY watermark, source
LIMIT 10
