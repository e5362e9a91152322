CREATE OR REPLACE TEMP TABLE scope_tool_calls AS
SELECT * FROM tool_calls
WHERE event_uid IN (SELECT event_uid FROM scope_items WHERE family = 'c')
