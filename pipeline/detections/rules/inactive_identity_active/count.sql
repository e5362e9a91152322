-- Identities that the registry calls decommissioned or suspended.
SELECT count(*) AS examined FROM reg_identities WHERE status IN ('decommissioned', 'suspended')
