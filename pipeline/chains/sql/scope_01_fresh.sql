-- Events committed after the last publication.
CREATE OR REPLACE TEMP TABLE fresh_uids AS
SELECT event_uid, 't' AS family FROM fresh_token_events
UNION
SELECT event_uid, 'c' FROM fresh_tool_calls
