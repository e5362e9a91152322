-- Acting names carry no issuer that could be relied on: a registered name is its identity
-- whatever the issuer.
CREATE OR REPLACE TEMP TABLE agent_lookup AS
SELECT subject AS name, min(identity_id) AS identity_id FROM identity_lookup GROUP BY subject
