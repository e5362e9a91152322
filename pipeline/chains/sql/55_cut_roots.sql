-- Where the second walk starts: below each cut.
CREATE OR REPLACE TEMP TABLE walk_roots AS
SELECT child_key AS credential_key FROM cycle_cuts
