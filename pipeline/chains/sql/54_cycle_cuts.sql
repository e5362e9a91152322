-- One cut a cycle: its weakest hop, then the latest.
CREATE OR REPLACE TEMP TABLE cycle_cuts AS
SELECT ring.label AS cycle,
    arg_min(links.child_key, (links.confidence, -epoch_us(links.hop_time), links.child_key)) AS child_key
FROM ring JOIN links ON links.child_key = ring.here
GROUP BY ring.label
