-- The principal on whose behalf an agent acts changed, or was lost, on the way.
--
-- One row per hop, or per credential whose calls name another subject or none.  Aliases and
-- registered identity maps are one principal; a client that is its own subject is nobody's.
WITH hop_changes AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.hop_kind, hop.method, hop.hop_time,
        hop.delegate, hop.delegator, hop.event_uids AS hop_events,
        child.subject_id AS child_subject, child.subject_issuer AS child_subject_issuer,
        parent.subject_id AS parent_subject, parent.subject_issuer AS parent_subject_issuer,
        child.environment, child.observer,
        child.event_uids AS child_events, parent.event_uids AS parent_events,
        -- Another issuer names people in its own way; without a map that is all one can say.
        coalesce(child.from_trust_domain <> child.to_trust_domain, false)
            OR coalesce(child.trust_domain <> parent.trust_domain, false)
            OR coalesce(child.subject_issuer <> parent.subject_issuer, false)
            OR coalesce(child.issuer <> parent.issuer, false) AS is_transcribed
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    INNER JOIN credentials AS parent
        ON hop.tenant_id = parent.tenant_id AND hop.parent_key = parent.credential_key
    WHERE hop.subject_changed
        AND hop.hop_kind IN ('exchange', 'refresh', 'delegate', 'assertion', 'issue', 'rotate')
        -- An assumed role, and a credential made under a delegation record, are principals of
        -- their own.
        AND coalesce(hop.role, 'subject') NOT IN ('source', 'delegation')
        -- A client that proves itself by an assertion gets a token for itself.
        AND coalesce(child.grant_type, '') NOT LIKE '%client_credentials%'
        AND NOT (
            child.subject_id IS NULL
            AND coalesce(parent.subject_id IN (parent.client_id, parent.actor_id), false)
        )
),
same_subject AS (
    SELECT DISTINCT change.tenant_id, change.child_key
    FROM hop_changes AS change
    INNER JOIN reg_aliases AS one ON change.child_subject = one.subject
    INNER JOIN reg_aliases AS other
        ON change.parent_subject = other.subject AND one.identity_id = other.identity_id
    UNION
    SELECT DISTINCT change.tenant_id, change.child_key
    FROM hop_changes AS change
    INNER JOIN reg_identity_maps AS mapped
        ON change.parent_subject = mapped.from_subject AND change.child_subject = mapped.to_subject
    UNION
    -- A map says that two names are one person's, whichever comes first.
    SELECT DISTINCT change.tenant_id, change.child_key
    FROM hop_changes AS change
    INNER JOIN reg_identity_maps AS mapped
        ON change.parent_subject = mapped.to_subject AND change.child_subject = mapped.from_subject
    UNION
    -- Directories keep the case of an address as somebody typed it.
    SELECT tenant_id, child_key
    FROM hop_changes
    WHERE lower(child_subject) = lower(parent_subject) AND contains(child_subject, '@')
),
-- Calls are held against the credential only where they name it themselves.
presented AS (
    SELECT
        call.tenant_id, call.credential_key, call.call_key, call.event_uid, call.event_time,
        call.source, call.observer, call.agent_id, call.tool_name, call.action_class,
        call.resource_sensitivity, call.subject_id, call.subject_issuer,
        array_length(call.act_chain) > 0
            OR (call.actor_id IS NOT NULL AND coalesce(call.actor_convention = 'act', false)) AS shows_actor,
        held.subject_id AS held_subject, held.subject_issuer AS held_subject_issuer
    FROM calls AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE call.link_method IN ('T1', 'T2', 'T3') AND call.link_confidence >= $link_confidence_min
        AND call.outcome <> 'denied'
        AND held.seen_issued AND held.subject_id IS NOT NULL
        AND NOT coalesce(held.subject_id IN (held.client_id, held.actor_id, call.agent_id, call.actor_id), false)
        AND call.subject_id IS DISTINCT FROM held.subject_id
),
habits AS (
    SELECT call.tenant_id, call.source, count(call.subject_id) AS with_subject
    FROM tool_calls AS call
    INNER JOIN (SELECT DISTINCT tenant_id, source FROM presented) AS concerned
        ON call.tenant_id = concerned.tenant_id AND call.source = concerned.source
    GROUP BY call.tenant_id, call.source
),
same_call_subject AS (
    SELECT DISTINCT presented.tenant_id, presented.event_uid
    FROM presented
    INNER JOIN reg_aliases AS one ON presented.subject_id = one.subject
    INNER JOIN reg_aliases AS other
        ON presented.held_subject = other.subject AND one.identity_id = other.identity_id
    UNION
    SELECT DISTINCT presented.tenant_id, presented.event_uid
    FROM presented
    INNER JOIN reg_identity_maps AS mapped
        ON presented.held_subject = mapped.from_subject AND presented.subject_id = mapped.to_subject
    UNION
    SELECT DISTINCT presented.tenant_id, presented.event_uid
    FROM presented
    INNER JOIN reg_identity_maps AS mapped
        ON presented.held_subject = mapped.to_subject AND presented.subject_id = mapped.from_subject
    UNION
    SELECT tenant_id, event_uid
    FROM presented
    WHERE lower(subject_id) = lower(held_subject) AND contains(subject_id, '@')
),
call_changes AS (
    SELECT
        presented.*,
        row_number() OVER (
            PARTITION BY presented.tenant_id, presented.credential_key
            ORDER BY presented.event_time, presented.event_uid
        ) AS place
    FROM presented
    INNER JOIN habits
        ON presented.tenant_id = habits.tenant_id AND presented.source = habits.source
    LEFT JOIN same_call_subject AS same
        ON presented.tenant_id = same.tenant_id AND presented.event_uid = same.event_uid
    WHERE same.event_uid IS NULL
        AND CASE
            -- A cloud's audit log repeats the key, not whom it stands for; and a source that
            -- never names a subject loses none, unless it saw the claims beside it.
            WHEN presented.subject_id IS NULL THEN presented.observer <> 'cloud_audit'
                AND (habits.with_subject > 0 OR presented.shows_actor)
            -- A runtime's own name for a person is no contradiction; nor is one of another issuer.
            ELSE presented.observer <> 'agent_runtime'
                AND presented.subject_issuer IS NOT DISTINCT FROM presented.held_subject_issuer
        END
),
call_found AS (
    SELECT
        tenant_id, credential_key,
        min(held_subject) AS expected_subject,
        list_sort(list_distinct(list(coalesce(subject_id, '(none)')))) AS seen_subjects,
        min(agent_id) AS agent_id, count(*) AS calls,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        max(observer) AS observer,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM call_changes
    GROUP BY tenant_id, credential_key
)
SELECT
    change.tenant_id,
    'hop' AS changed_at,
    change.child_key AS changed_key,
    coalesce(change.delegate, change.child_subject, change.child_key) AS entity,
    CASE
        WHEN change.child_subject IS NULL
            THEN 'The subject ' || change.parent_subject || ' was lost on the way to ' || coalesce(change.delegate, 'unknown')
        WHEN change.is_transcribed
            THEN 'The subject ' || change.parent_subject || ' became ' || change.child_subject || ' at another issuer, unmapped'
        ELSE 'The subject ' || change.parent_subject || ' became ' || change.child_subject || ' in the hands of '
            || coalesce(change.delegate, 'unknown')
    END AS title,
    CASE WHEN change.is_transcribed THEN 3 ELSE 4 END AS severity,
    chain.confidence,
    chain.confidence AS chain_confidence,
    change.child_key AS credential_key,
    CAST(NULL AS VARCHAR) AS action_class,
    CAST(NULL AS INTEGER) AS resource_sensitivity,
    change.environment,
    change.observer,
    change.is_transcribed AS is_unmapped,
    change.hop_kind,
    change.method,
    change.delegator,
    change.parent_subject AS expected_subject,
    change.parent_subject_issuer AS expected_subject_issuer,
    [coalesce(change.child_subject, '(none)')] AS seen_subjects,
    CAST(NULL AS BIGINT) AS calls,
    change.hop_time AS first_seen,
    change.hop_time AS last_seen,
    list_sort(list_distinct(list_concat(
        change.hop_events, list_concat(change.child_events, change.parent_events)
    ))) AS event_uids
FROM hop_changes AS change
INNER JOIN chains AS chain ON change.child_key = chain.credential_key
LEFT JOIN same_subject AS same
    ON change.tenant_id = same.tenant_id AND change.child_key = same.child_key
WHERE same.child_key IS NULL
UNION ALL
SELECT
    found.tenant_id,
    'call' AS changed_at,
    found.credential_key AS changed_key,
    found.agent_id AS entity,
    found.agent_id || ' called for ' || array_to_string(found.seen_subjects, ', ')
        || ' with a credential of ' || found.expected_subject AS title,
    4 AS severity,
    chain.confidence,
    chain.confidence AS chain_confidence,
    found.credential_key,
    found.action_class,
    found.resource_sensitivity,
    held.environment,
    found.observer,
    false AS is_unmapped,
    CAST(NULL AS VARCHAR) AS hop_kind,
    CAST(NULL AS VARCHAR) AS method,
    CAST(NULL AS VARCHAR) AS delegator,
    found.expected_subject,
    held.subject_issuer AS expected_subject_issuer,
    found.seen_subjects,
    found.calls,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(list_concat(found.event_uids, held.event_uids))) AS event_uids
FROM call_found AS found
INNER JOIN credentials AS held
    ON found.tenant_id = held.tenant_id AND found.credential_key = held.credential_key
INNER JOIN chains AS chain
    ON found.tenant_id = chain.tenant_id AND found.credential_key = chain.credential_key
