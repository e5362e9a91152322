-- Was it alive at `at`?  120 s of tolerance between two sources' clocks.
CREATE OR REPLACE TEMP MACRO was_valid(made_at, expires_at, moment) AS
    made_at <= moment + INTERVAL 120 SECOND AND (expires_at IS NULL OR expires_at >= moment - INTERVAL 120 SECOND)
