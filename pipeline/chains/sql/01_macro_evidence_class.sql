-- Default evidence class by observer (domain reference 2.1).
CREATE OR REPLACE TEMP MACRO evidence_class_of(observer) AS CASE
    WHEN observer IN ('authz_server', 'idp', 'secret_store', 'cloud_audit') THEN 'issuer_asserted'
    WHEN observer IN ('gateway', 'resource_server') THEN 'enforced_observed'
    WHEN observer = 'agent_runtime' THEN 'self_reported'
    ELSE 'inferred' END
