-- What a person may have in hand: a credential's key or id, a call's event uid, key or call
-- id, a finding's id.  The most exact reading first.
SELECT credential_key, NULL AS event_uid, NULL AS finding_id, 1 AS place FROM credentials WHERE credential_key = $id
UNION ALL
SELECT credential_key, event_uid, NULL, 2 FROM calls WHERE event_uid = $id OR call_key = $id
UNION ALL
SELECT credential_key, event_uids[1], finding_id, 3 FROM findings WHERE starts_with(finding_id, $id) AND length($id) >= 8
UNION ALL
SELECT credential_key, NULL, NULL, 4 FROM credential_aliases WHERE id = $id
UNION ALL
SELECT credential_key, event_uid, NULL, 5 FROM calls WHERE call_id = $id OR event_id = $id
ORDER BY place, credential_key
