-- Grants of consent.
SELECT count(*) AS examined FROM token_events WHERE op = 'consent_grant' OR consent_id IS NOT NULL
