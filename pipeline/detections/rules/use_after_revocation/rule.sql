-- A credential still worked after it had been revoked.
--
-- One row per credential.  A use is a successful call, a use that a token service reports, or
-- an exchange in which it was the subject token or the actor token.  Revoking what it was made from does not
-- count here: that is another rule's question.
WITH ended_secrets AS (
    SELECT
        tenant_id, secret_id, secret_version, op, max(event_time) AS ended_at,
        list_sort(list_distinct(list(event_uid))) AS event_uids
    FROM secret_events
    WHERE op IN ('revoke', 'delete')
    GROUP BY tenant_id, secret_id, secret_version, op
),
renewed_secrets AS (
    SELECT tenant_id, secret_id, max(event_time) AS renewed_at
    FROM secret_events
    WHERE op IN ('create', 'rotate', 'renew')
    GROUP BY tenant_id, secret_id
),
-- A secret bears the id under which it is presented, or its version does; a bare version
-- number is no name.
ended_ids AS (
    SELECT ended.*, ended.secret_id AS id
    FROM ended_secrets AS ended
    LEFT JOIN renewed_secrets AS renewed
        ON ended.tenant_id = renewed.tenant_id AND ended.secret_id = renewed.secret_id
    WHERE ended.secret_version IS NULL
        AND (renewed.renewed_at IS NULL OR renewed.renewed_at <= ended.ended_at)
    UNION ALL
    SELECT ended_secrets.*, secret_version AS id
    FROM ended_secrets
    WHERE length(secret_version) >= $version_id_min
    UNION ALL
    SELECT ended_secrets.*, secret_id || mark.separator || secret_version AS id
    FROM ended_secrets
    CROSS JOIN (
        SELECT ':' AS separator UNION ALL SELECT '/' UNION ALL SELECT '#' UNION ALL SELECT '@'
    ) AS mark
    WHERE secret_version IS NOT NULL
),
revoked_as_secret AS (
    SELECT
        held.tenant_id, held.credential_key, min(ended.ended_at) AS revoked_at, min(ended.op) AS op,
        list_sort(list_distinct(flatten(list(ended.event_uids)))) AS event_uids
    FROM credentials AS held
    INNER JOIN ended_ids AS ended ON held.tenant_id = ended.tenant_id AND held.id = ended.id
    WHERE held.is_static AND held.revoked_at IS NULL
    GROUP BY held.tenant_id, held.credential_key
),
revoked AS (
    SELECT
        tenant_id, credential_key, issuer, kind, id, source, revoked_at, revoke_target, revoke_reason,
        actor_id, client_id, subject_id, observer, event_uids
    FROM credentials
    WHERE revoked_at IS NOT NULL
        -- Broad revocations reach only what existed; a credential made later is another one.
        AND (issued_at IS NULL OR issued_at <= revoked_at)
    UNION ALL
    SELECT
        held.tenant_id, held.credential_key, held.issuer, held.kind, held.id, held.source,
        secret.revoked_at, 'secret' AS revoke_target, secret.op AS revoke_reason, held.actor_id,
        held.client_id, held.subject_id, held.observer,
        list_concat(secret.event_uids, held.event_uids) AS event_uids
    FROM revoked_as_secret AS secret
    INNER JOIN credentials AS held
        ON secret.tenant_id = held.tenant_id AND secret.credential_key = held.credential_key
),
uses AS (
    SELECT
        call.tenant_id, call.credential_key, call.event_uid, call.event_time AS used_at,
        call.observer, call.agent_id, call.tool_name AS used_for, call.action_class,
        call.resource_sensitivity, call.source
    FROM calls AS call
    WHERE call.outcome = 'success'
        -- A link by agent or transaction may mean the credential that replaced it.
        AND call.link_confidence >= $link_confidence_min AND call.link_method IN ('T1', 'T2', 'T3')
    UNION ALL
    SELECT
        event.tenant_id, alias.credential_key, event.event_uid, event.event_time AS used_at,
        event.observer, coalesce(event.actor_id, event.client_id) AS agent_id, 'token use' AS used_for,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity, event.source
    FROM token_events AS event
    INNER JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.credential_id = alias.id
        AND event.credential_kind = alias.kind
        AND event.credential_issuer IS NOT DISTINCT FROM alias.issuer
    WHERE event.op = 'use' AND event.outcome = 'success'
    UNION ALL
    SELECT
        hop.tenant_id, hop.parent_key AS credential_key, made.event_uid, hop.hop_time AS used_at,
        child.observer, hop.delegate AS agent_id, 'exchange' AS used_for,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity, child.source
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    CROSS JOIN unnest(hop.event_uids) AS made(event_uid)
    WHERE hop.hop_kind = 'exchange' AND hop.role = 'subject'
    UNION ALL
    SELECT
        event.tenant_id, alias.credential_key, event.event_uid, event.event_time AS used_at,
        event.observer, coalesce(event.actor_id, event.client_id) AS agent_id, 'actor token of an exchange' AS used_for,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity, event.source
    FROM (
        SELECT token_events.*, unnest(parents) AS parent
        FROM token_events
        WHERE op = 'exchange' AND outcome = 'success' AND array_length(parents) > 1
    ) AS event
    INNER JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.parent.id = alias.id
        AND event.parent.kind = alias.kind AND event.parent.issuer IS NOT DISTINCT FROM alias.issuer
    WHERE event.parent.role = 'actor'
),
late AS (
    SELECT
        uses.*, revoked.revoked_at,
        row_number() OVER (
            PARTITION BY uses.tenant_id, uses.credential_key ORDER BY uses.used_at, uses.event_uid
        ) AS place
    FROM uses
    INNER JOIN revoked
        ON uses.tenant_id = revoked.tenant_id AND uses.credential_key = revoked.credential_key
    WHERE epoch(uses.used_at) - epoch(revoked.revoked_at) > $propagation_s
),
found AS (
    SELECT
        tenant_id, credential_key, count(*) AS uses,
        min(agent_id) FILTER (WHERE place = 1) AS agent_id,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        list_sort(list_distinct(list(used_for) FILTER (WHERE place <= $evidence_max))) AS used_for,
        list_sort(list_distinct(list(source))) AS accepted_by,
        min(used_at) AS first_seen, max(used_at) AS last_seen,
        max(epoch(used_at) - epoch(revoked_at)) AS longest_after_s,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM late
    GROUP BY tenant_id, credential_key
)
SELECT
    found.tenant_id,
    found.credential_key,
    coalesce(found.agent_id, revoked.actor_id, revoked.client_id, revoked.id) AS entity,
    coalesce(found.agent_id, 'Someone') || ' used a credential '
        || CAST(CAST(found.longest_after_s AS BIGINT) AS VARCHAR) || ' s after it was revoked' AS title,
    chain.confidence,
    chain.confidence AS chain_confidence,
    found.action_class,
    found.resource_sensitivity,
    coalesce(found.observer, 'agent_runtime') AS observer,
    revoked.issuer,
    revoked.kind,
    revoked.id AS revoked_id,
    revoked.revoked_at,
    revoked.revoke_target,
    revoked.revoke_reason,
    found.uses,
    found.used_for,
    found.accepted_by,
    found.longest_after_s,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(list_concat(found.event_uids, revoked.event_uids))) AS event_uids
FROM found
INNER JOIN revoked
    ON found.tenant_id = revoked.tenant_id AND found.credential_key = revoked.credential_key
LEFT JOIN chains AS chain
    ON found.tenant_id = chain.tenant_id AND found.credential_key = chain.credential_key
