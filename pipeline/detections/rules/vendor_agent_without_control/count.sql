-- Active agents that a vendor runs.
SELECT count(*) AS examined FROM reg_identities WHERE vendor_hosted AND status = 'active'
