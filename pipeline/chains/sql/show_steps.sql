-- The credentials of one chain in order, root first, each with the hop that made it.
SELECT
    position, cred.credential_key, cred.kind, cred.id, cred.issuer, cred.subject_id,
    coalesce(cred.actor_id, cred.client_id, cred.subject_id) AS acting,
    cred.scopes, cred.scope_known, cred.issued_at, cred.expires_at, cred.revoked_at, cred.is_static,
    cred.first_seen, cred.seen_issued, cred.event_uids,
    hop.hop_kind, hop.method, hop.confidence, hop.attenuation, hop.widened_scopes, hop.parent_scopes,
    hop.delegator, hop.delegate, hop.evidence_class, hop.subject_changed, hop.unknown_reason
FROM (
    SELECT unnest(credential_path) AS key, unnest(range(1, len(credential_path) + 1)) AS position
    FROM chains WHERE credential_key = $key
) AS path
JOIN credentials AS cred ON cred.credential_key = path.key
LEFT JOIN hops AS hop ON hop.child_key = path.key AND position > 1
ORDER BY position
