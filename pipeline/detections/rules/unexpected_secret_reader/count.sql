-- Reads of secrets.
SELECT count(*) AS examined FROM secret_events WHERE op = 'read'
