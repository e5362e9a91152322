-- The recorded earlier actors, oldest first, that a path does not show yet.  Where they begin as
-- the path does (with its subject or after it) the rest is new, whoever comes back in it; else
-- only names that the path does not have.
CREATE OR REPLACE TEMP MACRO asserted_after(path, recorded) AS CASE
    WHEN recorded[1:len(path)] = path THEN recorded[len(path) + 1:]
    WHEN recorded[1:len(path) - 1] = path[2:] THEN recorded[len(path):]
    ELSE list_filter(recorded, lambda name: NOT list_contains(path, name)) END
