-- Allowed lateness in seconds by observer (domain reference 4.7).
CREATE OR REPLACE TEMP MACRO lateness_of(observer) AS CASE observer
    WHEN 'cloud_audit' THEN 900 WHEN 'idp' THEN 300 WHEN 'scanner' THEN 93600 ELSE 120 END
