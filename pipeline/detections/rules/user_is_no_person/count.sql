-- Roots that are taken for people.
SELECT count(*) AS examined FROM chains
WHERE root_key = credential_key AND root_kind IN ('human_interactive', 'human_federated')
