-- The hops of one chain, root first, as an analyst reads them.
SELECT
    path.position, hop.delegator,
    coalesce(hop.delegate, cred.actor_id, cred.client_id, cred.subject_id) AS delegate,
    hop.hop_kind, hop.method, hop.confidence, hop.attenuation, cred.scopes, hop.widened_scopes,
    cred.kind, cred.id, cred.issued_at, cred.expires_at, cred.revoked_at
FROM (
    SELECT unnest(credential_path) AS key, unnest(range(len(credential_path))) AS position
    FROM chains WHERE credential_key = $key
) AS path
JOIN credentials AS cred ON cred.credential_key = path.key
LEFT JOIN hops AS hop ON hop.child_key = path.key AND path.position > 0
ORDER BY path.position
