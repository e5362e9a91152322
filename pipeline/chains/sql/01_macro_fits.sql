-- Does the audience name the place?  One that names none fits any, and an address is meant for
-- all that lies below its path.  A bare name, as a gateway has for the servers behind it, cannot
-- be compared with addresses.  Both sides are place names.
CREATE OR REPLACE TEMP MACRO fits(audience, places) AS
    len(audience) = 0 OR len(places) = 0 OR len(list_filter(audience, lambda one: list_contains(places, one)
        OR (contains(one, '://') AND len(list_filter(places, lambda place: starts_with(place, one || '/'))) > 0))) > 0
    OR (len(list_filter(places, lambda one: regexp_matches(one, '[./:]'))) = 0
        AND len(list_filter(audience, lambda one: NOT contains(one, '://'))) = 0)
