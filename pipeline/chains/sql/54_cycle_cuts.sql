-- One cut a cycle: its weakest hop, then the latest.
CREATE OR REPLACE TEMP TABLE cycle_cuts AS
WITH RECURSIVE members AS (
    SELECT DISTINCT there AS credential_key FROM jump
),
around AS (
    SELECT credential_key AS start, credential_key AS here FROM members
    UNION
    SELECT around.start, links.parent_key
    FROM around JOIN links ON links.child_key = around.here
),
cycles AS (
    SELECT start, min(here) AS cycle FROM around GROUP BY start
)
SELECT cycle, arg_min(links.child_key, (links.confidence, -epoch_us(links.hop_time), links.child_key)) AS child_key
FROM cycles JOIN links ON links.child_key = cycles.start
GROUP BY cycle
