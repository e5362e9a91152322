-- What becomes of each finding that this run returned, beside what is stored of it.
--
-- A finding that was written by a later look than this one is left alone.
WITH compared AS (
    SELECT
        found.*,
        stored.detected_at AS detected_before,
        stored.status AS was,
        stored.status_reason AS was_because,
        stored.decided_by AS decided_before,
        stored.accepted_until AS accepted_before,
        stored.suppressed_by AS suppressed_before,
        stored.updated_at AS was_updated_at,
        stored.finding_id IS NOT NULL AS is_known,
        -- How complete the data is changes by the hour: worth storing, no news about the finding.
        stored.rule_version IS DISTINCT FROM $rule_version
            OR stored.policy_version IS DISTINCT FROM $policy_version
            OR stored.coverage_note IS DISTINCT FROM found.coverage_note AS is_restamped,
        (
            stored.severity, stored.confidence, stored.title, stored.entity, stored.first_seen,
            stored.last_seen, stored.event_uids, stored.chain_path, stored.credential_key,
            stored.summary, stored.route_owner
        ) IS DISTINCT FROM (
            found.severity, found.confidence, found.title, found.entity, found.first_seen,
            found.last_seen, found.event_uids, found.chain_path, found.credential_key,
            found.summary, found.route_owner
        ) AS is_different,
        -- What was accepted was accepted as it weighed then.
        coalesce(found.severity > stored.severity, false) AS is_worse,
        coalesce(stored.accepted_until > $now, false) AS is_within,
        -- Someone closed it: only newer evidence opens it again.
        stored.status = 'resolved' AND stored.decided_by IS NOT NULL
            AND stored.accepted_until IS NULL AS was_closed,
        coalesce(found.last_seen > stored.last_seen, false) AS is_newer
    FROM found
    LEFT JOIN stored USING (finding_id)
    WHERE stored.finding_id IS NULL OR stored.updated_at <= $now
),
decided AS (
    SELECT
        *,
        CASE
            WHEN is_within AND NOT is_worse THEN 'accepted'
            WHEN was_closed AND NOT is_newer THEN 'resolved'
            WHEN hidden_by IS NOT NULL THEN 'suppressed'
            ELSE 'open'
        END AS status
    FROM compared
),
named AS (
    SELECT
        *,
        CASE
            WHEN status = 'accepted' AND was <> 'accepted' THEN 'found_again'
            WHEN status IN ('accepted', 'resolved') THEN was_because
            WHEN status = 'suppressed' THEN hidden_because
            WHEN was = 'accepted' AND is_worse THEN 'severity_rose'
            WHEN was = 'accepted' THEN 'acceptance_expired'
            WHEN was = 'suppressed' THEN 'suppression_ended'
            WHEN was_closed THEN 'newer_evidence'
            WHEN is_known AND was <> 'open' THEN 'found_again'
            WHEN is_known THEN was_because
        END AS status_reason,
        CASE
            WHEN status = 'suppressed' AND hidden_by IS DISTINCT FROM suppressed_before
                THEN 'suppressed'
            WHEN NOT is_known THEN 'created'
            WHEN status = 'accepted' AND was <> 'accepted' THEN 'accepted'
            WHEN status = 'open' AND was <> 'open' THEN 'reopened'
            WHEN is_different THEN 'updated'
        END AS change
    FROM decided
)
SELECT
    finding_id,
    severity,
    confidence,
    tenant_id,
    title,
    entity,
    status,
    status_reason,
    CASE WHEN status IN ('accepted', 'resolved') THEN decided_before END AS decided_by,
    CASE WHEN status = 'accepted' THEN accepted_before END AS accepted_until,
    CASE WHEN status = 'suppressed' THEN hidden_by END AS suppressed_by,
    first_seen,
    last_seen,
    event_uids,
    chain_path,
    credential_key,
    identity,
    summary,
    coverage_note,
    route_owner,
    coalesce(detected_before, $now) AS detected_at,
    CASE WHEN change IS NOT NULL OR is_restamped THEN $now ELSE was_updated_at END AS updated_at,
    change,
    coalesce(status_reason, change) AS reason,
    was_updated_at,
    change IS NOT NULL OR is_restamped AS is_written
FROM named
ORDER BY finding_id
