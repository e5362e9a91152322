-- Refreshes and renewals.
SELECT
    (SELECT count(*) FROM token_events WHERE op = 'refresh' AND outcome = 'success')
    + (SELECT count(*) FROM secret_events WHERE op = 'renew') AS examined
