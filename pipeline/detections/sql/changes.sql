-- What becomes of each finding that this run returned, beside what is stored of it.
--
-- A finding that was written by a later look than this one is left alone.
WITH compared AS (
    SELECT
        found.*,
        stored.detected_at AS detected_before,
        stored.status AS was,
        stored.status_reason AS was_because,
        stored.updated_at AS was_updated_at,
        stored.finding_id IS NOT NULL AS is_known,
        stored.rule_version IS DISTINCT FROM $rule_version
            OR stored.policy_version IS DISTINCT FROM $policy_version AS is_restamped,
        (
            stored.severity, stored.confidence, stored.title, stored.entity, stored.first_seen,
            stored.last_seen, stored.event_uids, stored.chain_path, stored.credential_key,
            stored.summary, stored.coverage_note, stored.route_owner
        ) IS DISTINCT FROM (
            found.severity, found.confidence, found.title, found.entity, found.first_seen,
            found.last_seen, found.event_uids, found.chain_path, found.credential_key,
            found.summary, found.coverage_note, found.route_owner
        ) AS is_different,
        -- Someone closed it, or accepted it: only newer evidence opens it again.
        stored.status = 'resolved' AND stored.status_reason IS DISTINCT FROM 'condition_ended'
            AND NOT coalesce(found.last_seen > stored.last_seen, false) AS stays_closed
    FROM found
    LEFT JOIN stored USING (finding_id)
    WHERE stored.finding_id IS NULL OR stored.updated_at <= $now
),
decided AS (
    SELECT
        *,
        CASE
            WHEN was = 'accepted' THEN 'accepted'
            WHEN stays_closed THEN 'resolved'
            WHEN suppressed_by IS NOT NULL THEN 'suppressed'
            ELSE 'open'
        END AS status
    FROM compared
),
named AS (
    SELECT
        *,
        CASE
            WHEN status IN ('accepted', 'resolved') THEN was_because
            WHEN status = 'suppressed' THEN suppressed_by
            WHEN is_known AND was <> 'open' THEN 'found_again'
            WHEN is_known THEN was_because
        END AS status_reason,
        CASE
            WHEN status = 'suppressed' AND was IS DISTINCT FROM 'suppressed' THEN 'suppressed'
            WHEN NOT is_known THEN 'created'
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
