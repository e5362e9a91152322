-- Token events in scope, with the key of their credential and how far they are believed.
CREATE OR REPLACE TEMP TABLE tok AS
SELECT
    event.* EXCLUDE (ext, event_id, adapter, single_use_id, kafka_topic, kafka_partition, kafka_offset, ingest_time, parent_span_id),
    event.parent_span_id,
    CASE WHEN credential_id IS NOT NULL
        THEN id_key(tenant_id, credential_issuer, credential_kind, credential_id) END AS own_id_key,
    op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate', 'rotate') AND outcome = 'success'
        AS is_issue,
    evidence_class_of(observer) AS evidence_class,
    evidence_rank_of(observer) AS evidence_rank,
    coalesce(subject_exact.identity_id, subject_any.identity_id, event.subject_id) AS subject_identity,
    CASE WHEN coalesce(subject_exact.identity_id, subject_any.identity_id) IS NULL THEN nullif(event.subject_issuer, '') END
        AS subject_namespace,
    -- RFC 8693 section 2.2.1 and RFC 6749 section 5.1: a response without scope grants
    -- what was requested.
    CASE
        WHEN len(scopes) = 0 AND len(requested_scopes) > 0 AND scope_known THEN requested_scopes
        ELSE scopes
    END AS granted_scopes
FROM scope_token_events AS event
LEFT JOIN identity_lookup AS subject_exact
    ON subject_exact.subject = event.subject_id AND subject_exact.issuer = event.subject_issuer
LEFT JOIN identity_lookup AS subject_any
    ON subject_any.subject = event.subject_id AND subject_any.issuer = '*'
