SELECT tenant_id, source, observer, is_file, has_token_events, has_tool_calls, has_secret_events,
    watermark, lateness_s, first_event_time, last_event_time, $policy_version AS policy_version
FROM watermarks_now
