-- Refresh tokens shown to a server, and reuse that a server reported.
SELECT count(*) AS examined FROM token_events WHERE op IN ('refresh', 'rotate', 'reuse_detected')
