-- Active agents of a class.
SELECT count(*) AS examined FROM reg_identities WHERE status = 'active' AND class IS NOT NULL
