-- Rotations.
SELECT count(*) AS examined FROM secret_events WHERE op = 'rotate'
