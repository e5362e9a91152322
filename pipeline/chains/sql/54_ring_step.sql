-- Pointer doubling again: after enough rounds every member carries its cycle's smallest key.
CREATE OR REPLACE TEMP TABLE ring_next AS
SELECT ring.here, far.there, least(ring.label, far.label) AS label
FROM ring JOIN ring AS far ON far.here = ring.there
