-- Credentials that were derived from another one which no event names.
CREATE OR REPLACE TEMP TABLE orphans AS
SELECT cred.*
FROM cred
WHERE (derives OR was_renewed OR delegation_record_id IS NOT NULL) AND NOT by_service
    AND NOT EXISTS (
        SELECT 1 FROM explicit_parents AS named
        WHERE named.child_key = cred.credential_key AND named.role <> 'actor'
    )
