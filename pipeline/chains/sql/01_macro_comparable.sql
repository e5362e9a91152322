-- Scope names mean something only relative to issuer and audience (domain reference 3.1.5); a
-- slash at the end makes no other audience.
CREATE OR REPLACE TEMP MACRO comparable(issuer_a, audience_a, issuer_b, audience_b) AS
    (issuer_a IS NULL OR issuer_b IS NULL OR issuer_a = issuer_b)
    AND (len(audience_a) = 0 OR len(audience_b) = 0
        OR len(list_filter(audience_a, lambda one: list_contains(audience_b, one))) > 0
        OR len(list_filter(audience_a, lambda one:
            list_contains(list_transform(audience_b, lambda other: place_name(other)), place_name(one)))) > 0)
