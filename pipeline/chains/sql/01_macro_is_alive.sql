-- Alive at `at`, not revoked, 120 s of tolerance between two clocks.
CREATE OR REPLACE TEMP MACRO is_alive(made_at, expires_at, revoked_at, moment) AS
    was_valid(made_at, expires_at, moment) AND (revoked_at IS NULL OR revoked_at >= moment - INTERVAL 120 SECOND)
