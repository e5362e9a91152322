-- A credential still worked after it had been revoked.
--
-- One row per credential.  A use is a successful call, a use that a token service reports, or
-- an exchange in which it was the subject token.  Revoking what it was made from does not
-- count here: that is another rule's question.
WITH revoked AS (
    SELECT
        tenant_id, credential_key, issuer, kind, id, source, revoked_at, revoke_target, revoke_reason,
        actor_id, client_id, subject_id, observer, event_uids
    FROM credentials
    WHERE revoked_at IS NOT NULL
        -- Broad revocations reach only what existed; a credential made later is another one.
        AND (issued_at IS NULL OR issued_at <= revoked_at)
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
