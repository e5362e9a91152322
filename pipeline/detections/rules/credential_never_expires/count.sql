-- Credentials and working secrets whose end, or lack of one, is known.
SELECT
    (SELECT count(*) FROM credentials WHERE never_expires OR expires_at IS NOT NULL)
    + (SELECT count(*) FROM secrets WHERE status = 'active' AND (never_expires OR expires_at IS NOT NULL))
    AS examined
