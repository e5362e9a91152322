-- Calls that administer rights.
SELECT count(*) AS examined FROM calls WHERE action_class = 'admin_iam'
