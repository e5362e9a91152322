-- One credential was used by several agents, or from several workloads, within a day.
--
-- One row per credential, or per secret whose uses the store reports.  Two uses by different
-- holders close together are enough; registered gateways and delegates are no holders, and
-- neither are two names of one identity.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
presented AS (
    SELECT
        call.tenant_id, call.credential_key AS shared_key, call.event_uid, call.event_time,
        call.agent_id, call.agent_issuer, call.workload_id
    FROM calls AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE call.outcome <> 'denied'
        -- Only what names the credential itself: a link by agent or transaction proves no sharing.
        AND call.link_confidence >= $link_confidence_min
        AND call.link_method IN ('T1', 'T2', 'T3')
        -- A cloud reads the principal off the key: two of them are a placeholder, no sharing.
        AND NOT (call.observer = 'cloud_audit' AND starts_with(call.agent_id, 'arn:'))
        -- A transaction token travels through every workload of its call by design.
        AND NOT (
            ends_with(lower(coalesce(held.token_type, '')), 'txn_token')
            OR ends_with(lower(coalesce(held.token_type, '')), 'txn-token')
        )
),
-- One value under several secret ids; calls name the ids.
copied AS (
    SELECT tenant_id, fingerprint
    FROM secrets
    WHERE fingerprint IS NOT NULL
    GROUP BY tenant_id, fingerprint
    HAVING min(secret_id) <> max(secret_id)
),
copies AS (
    SELECT secret.tenant_id, secret.fingerprint, held.credential_key
    FROM secrets AS secret
    INNER JOIN copied ON secret.tenant_id = copied.tenant_id AND secret.fingerprint = copied.fingerprint
    INNER JOIN credentials AS held ON secret.tenant_id = held.tenant_id AND secret.secret_id = held.id
    WHERE held.is_static OR held.kind IN ('api_key_id', 'access_key_id')
),
uses AS (
    SELECT tenant_id, 'credential' AS shared, shared_key, event_uid, event_time, 'agent' AS holder_kind,
        agent_id AS holder, agent_issuer AS holder_issuer
    FROM presented
    -- Whom an observer could not name is not somebody else.
    WHERE agent_id <> 'unknown'
    UNION ALL
    SELECT tenant_id, 'credential' AS shared, shared_key, event_uid, event_time, 'workload' AS holder_kind,
        workload_id AS holder, CAST(NULL AS VARCHAR) AS holder_issuer
    FROM presented
    WHERE workload_id IS NOT NULL
    UNION ALL
    SELECT tenant_id, 'secret' AS shared, coalesce(fingerprint, secret_id) AS shared_key, event_uid,
        event_time, 'agent' AS holder_kind, accessed_by_id AS holder, accessed_by_issuer AS holder_issuer
    FROM secret_events
    WHERE op = 'use' AND accessed_by_id IS NOT NULL
    UNION ALL
    -- Uses of a key that its issuer or a resource server tells of, without a call.
    SELECT
        event.tenant_id, 'credential' AS shared, held.credential_key AS shared_key, event.event_uid,
        event.event_time, 'agent' AS holder_kind, event.actor_id AS holder, event.actor_issuer AS holder_issuer
    FROM token_events AS event
    INNER JOIN credentials AS held
        ON event.tenant_id = held.tenant_id AND event.credential_kind = held.kind AND event.credential_id = held.id
        AND event.credential_issuer IS NOT DISTINCT FROM held.issuer
    WHERE event.op = 'use' AND event.outcome = 'success' AND event.actor_id IS NOT NULL AND held.is_static
        AND event.observer <> 'cloud_audit'
    UNION ALL
    SELECT presented.tenant_id, 'secret' AS shared, copies.fingerprint AS shared_key, presented.event_uid,
        presented.event_time, 'agent' AS holder_kind, presented.agent_id AS holder, presented.agent_issuer AS holder_issuer
    FROM presented
    INNER JOIN copies
        ON presented.tenant_id = copies.tenant_id AND presented.shared_key = copies.credential_key
),
-- Nearly every credential has one holder, and then there is nothing to compare.
several AS (
    SELECT tenant_id, shared, shared_key, holder_kind
    FROM uses
    GROUP BY tenant_id, shared, shared_key, holder_kind
    HAVING min(holder) <> max(holder)
),
holders AS (
    SELECT uses.*
    FROM uses
    INNER JOIN several
        ON uses.tenant_id = several.tenant_id AND uses.shared = several.shared
        AND uses.shared_key = several.shared_key AND uses.holder_kind = several.holder_kind
),
known AS (
    SELECT
        holder.holder, holder.holder_issuer,
        min(identity.identity_id) AS identity_id,
        bool_or(coalesce(identity.pass_through, false)) AS pass_through,
        list_distinct(flatten(list(coalesce(identity.delegate_for, CAST([] AS VARCHAR[]))))) AS delegate_for
    FROM (SELECT DISTINCT holder, holder_issuer FROM holders) AS holder
    INNER JOIN names
        ON holder.holder = names.subject
        AND (names.issuer IS NULL OR holder.holder_issuer IS NULL OR names.issuer = holder.holder_issuer)
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
    GROUP BY holder.holder, holder.holder_issuer
),
named AS (
    SELECT
        holders.*, coalesce(known.identity_id, holders.holder) AS identity_id,
        coalesce(known.delegate_for, CAST([] AS VARCHAR[])) AS delegate_for
    FROM holders
    LEFT JOIN known
        ON holders.holder = known.holder AND holders.holder_issuer IS NOT DISTINCT FROM known.holder_issuer
    WHERE NOT coalesce(known.pass_through, false)
),
in_order AS (
    SELECT
        *,
        lag(identity_id) OVER in_time AS before_id,
        lag(delegate_for) OVER in_time AS before_delegate_for,
        lag(event_time) OVER in_time AS before_time,
        lag(event_uid) OVER in_time AS before_uid
    FROM named
    WINDOW in_time AS (
        PARTITION BY tenant_id, shared, shared_key, holder_kind ORDER BY event_time, event_uid
    )
),
-- Between two uses by different holders within a day lies a pair of neighbours that differ.
switches AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY tenant_id, shared, shared_key ORDER BY event_time, event_uid)
            AS place
    FROM in_order
    WHERE identity_id <> before_id
        AND epoch(event_time) - epoch(before_time) <= $window_s
        AND NOT list_contains(delegate_for, before_id)
        AND NOT list_contains(before_delegate_for, identity_id)
),
sides AS (
    SELECT tenant_id, shared, shared_key, holder_kind, identity_id, event_time, event_uid, place
    FROM switches
    UNION ALL
    SELECT tenant_id, shared, shared_key, holder_kind, before_id AS identity_id,
        before_time AS event_time, before_uid AS event_uid, place
    FROM switches
),
found AS (
    SELECT
        tenant_id, shared, shared_key,
        list_sort(list_distinct(list(identity_id) FILTER (WHERE holder_kind = 'agent'))) AS agents,
        list_sort(list_distinct(list(identity_id) FILTER (WHERE holder_kind = 'workload'))) AS workloads,
        min(event_time) AS first_seen,
        max(event_time) AS last_seen,
        list_distinct(list(event_uid) FILTER (WHERE place <= $evidence_max)) AS event_uids
    FROM sides
    GROUP BY tenant_id, shared, shared_key
),
vendors AS (
    SELECT DISTINCT found.tenant_id, found.shared, found.shared_key
    FROM found
    CROSS JOIN unnest(list_concat(
        coalesce(found.agents, CAST([] AS VARCHAR[])), coalesce(found.workloads, CAST([] AS VARCHAR[]))
    )) AS item(identity_id)
    INNER JOIN reg_identities AS identity ON item.identity_id = identity.identity_id
    WHERE identity.vendor_hosted
),
-- Store and gateway may both tell of one sharing: the calls say more.
told_by_calls AS (
    SELECT DISTINCT found.tenant_id, coalesce(secret.fingerprint, secret.secret_id) AS shared_key
    FROM found
    INNER JOIN credentials AS held
        ON found.tenant_id = held.tenant_id AND found.shared_key = held.credential_key
    INNER JOIN secrets AS secret ON held.tenant_id = secret.tenant_id AND held.id = secret.secret_id
    WHERE found.shared = 'credential'
)
SELECT
    found.tenant_id,
    found.shared,
    found.shared_key,
    coalesce(held.id, found.shared_key) AS entity,
    'One ' || found.shared || ' was used by '
        || array_to_string(coalesce(found.agents, found.workloads), ', ') AS title,
    CASE WHEN held.is_static OR found.shared = 'secret' THEN 4 ELSE 3 END AS severity,
    held.credential_key,
    vendors.shared_key IS NOT NULL AS vendor_hosted,
    CASE WHEN held.credential_key IS NOT NULL THEN held.environment END AS environment,
    found.agents,
    found.workloads,
    held.issuer,
    held.kind,
    coalesce(held.actor_id, held.client_id) AS issued_to,
    chain.root_principal,
    chain.confidence AS chain_confidence,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(list_concat(
        found.event_uids, coalesce(held.event_uids, CAST([] AS VARCHAR[]))
    ))) AS event_uids
FROM found
LEFT JOIN credentials AS held
    ON found.tenant_id = held.tenant_id AND found.shared = 'credential' AND found.shared_key = held.credential_key
LEFT JOIN chains AS chain
    ON held.tenant_id = chain.tenant_id AND held.credential_key = chain.credential_key
LEFT JOIN vendors
    ON found.tenant_id = vendors.tenant_id AND found.shared = vendors.shared AND found.shared_key = vendors.shared_key
LEFT JOIN told_by_calls
    ON found.tenant_id = told_by_calls.tenant_id AND found.shared_key = told_by_calls.shared_key
WHERE found.shared = 'credential' OR told_by_calls.shared_key IS NULL
