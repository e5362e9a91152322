-- Does the audience name the place?  One that names none fits any.
CREATE OR REPLACE TEMP MACRO fits(audience, places) AS
    len(audience) = 0 OR len(places) = 0 OR len(list_filter(audience, lambda one: list_contains(places, one))) > 0
