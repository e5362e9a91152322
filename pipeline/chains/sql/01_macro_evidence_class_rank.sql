CREATE OR REPLACE TEMP MACRO evidence_class_rank(class) AS CASE class
    WHEN 'cryptographic' THEN 4 WHEN 'issuer_asserted' THEN 3 WHEN 'enforced_observed' THEN 2
    WHEN 'self_reported' THEN 1 ELSE 0 END
