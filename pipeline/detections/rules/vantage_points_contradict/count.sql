-- Calls that were seen from more than one point.
SELECT count(*) AS examined FROM call_links WHERE is_primary AND observations > 1
