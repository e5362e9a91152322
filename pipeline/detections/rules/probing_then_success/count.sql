-- Refused calls.
SELECT count(*) AS examined FROM calls WHERE outcome = 'denied' OR (outcome = 'failure' AND decision_effect = 'deny')
