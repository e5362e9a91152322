-- Calls in a trace or transaction that present a credential and name no person.
SELECT count(*) AS examined
FROM calls
WHERE coalesce(trace_id, txn_id) IS NOT NULL AND credential_id IS NOT NULL
    AND coalesce(subject_kind, 'unknown') <> 'human'
