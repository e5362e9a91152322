-- Does this audience name that party?  By its own name, or as the host or the last part of an
-- address: https://agent-b.example is agent-b.
CREATE OR REPLACE TEMP MACRO names_party(audience, party) AS coalesce(
    audience = party OR (contains(audience, '://') AND lower(party) IN (
        regexp_extract(lower(audience), '^[a-z][a-z0-9+.-]*://([^/.:]+)', 1),
        regexp_replace(lower(rtrim(audience, '/')), '^.*[/:]', ''))), false)
