-- Active identities of the registry.
SELECT count(*) AS examined FROM reg_identities WHERE status = 'active' AND kind <> 'human'
