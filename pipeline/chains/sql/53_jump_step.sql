-- Pointer doubling: after enough rounds every pointer stands on a cycle.
CREATE OR REPLACE TEMP TABLE jump_next AS
SELECT jump.here, far.there
FROM jump JOIN jump AS far ON far.here = jump.there
