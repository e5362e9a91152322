-- What a refresh shows of the credential that it names as its refresh token: many servers log no
-- issuance of those.  Client, subject and grant stay the same (RFC 6749 section 6).
CREATE OR REPLACE TEMP TABLE renewed AS
SELECT
    named.credential_key,
    arg_min(made.client_id, (made.event_time, made.event_uid)) FILTER (made.client_id IS NOT NULL) AS client_id,
    arg_min(made.subject_id, (made.event_time, made.event_uid)) FILTER (made.subject_id IS NOT NULL) AS subject_id,
    arg_min(made.subject_issuer, (made.event_time, made.event_uid)) FILTER (made.subject_id IS NOT NULL) AS subject_issuer,
    arg_min(made.subject_identity, (made.event_time, made.event_uid)) FILTER (made.subject_id IS NOT NULL) AS subject_identity,
    arg_min(made.subject_namespace, (made.event_time, made.event_uid)) FILTER (made.subject_id IS NOT NULL) AS subject_namespace,
    arg_min(made.subject_kind, (made.event_time, made.event_uid)) FILTER (made.subject_kind IS NOT NULL) AS subject_kind,
    -- What two refreshes say differently is no grant of both.
    CASE WHEN count(DISTINCT made.family_id) = 1 AND count(DISTINCT made.subject_identity) <= 1
        THEN min(made.family_id) END AS family_id,
    CASE WHEN count(DISTINCT made.consent_id) = 1 AND count(DISTINCT made.subject_identity) <= 1
        THEN min(made.consent_id) END AS consent_id,
    arg_min(made.credential_issuer, (made.event_time, made.event_uid)) FILTER (made.credential_issuer IS NOT NULL) AS issuer
FROM (SELECT own_events.* EXCLUDE (credential_key), unnest(parents) AS parent FROM own_events WHERE is_issue) AS made
JOIN credential_ids AS named
    ON named.id_key = id_key(made.tenant_id, made.parent.issuer, made.parent.kind, made.parent.id)
WHERE made.parent.role = 'refresh'
GROUP BY named.credential_key
