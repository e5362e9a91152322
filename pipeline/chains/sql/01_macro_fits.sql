-- Does the audience name the place?  One that names none fits any.  A bare name, as a gateway has
-- for the servers behind it, cannot be compared with addresses.
CREATE OR REPLACE TEMP MACRO fits(audience, places) AS
    len(audience) = 0 OR len(places) = 0 OR len(list_filter(audience, lambda one: list_contains(places, one))) > 0
    OR (len(list_filter(places, lambda one: regexp_matches(one, '[./:]'))) = 0
        AND len(list_filter(audience, lambda one: NOT contains(one, '://'))) = 0)
