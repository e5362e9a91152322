CREATE OR REPLACE TEMP TABLE scope_token_events AS
SELECT * FROM token_events
WHERE event_uid IN (SELECT event_uid FROM scope_items WHERE family = 't')
