-- Access that is renewed again and again, or rests on a sign-in long past.
--
-- One row per refresh family or lease.  A renewal chain is unbroken until a person signs in
-- again, the secret is rotated, or a lease ends before it is renewed.
WITH policies AS (
    SELECT
        names.name, names.issuer, policy.identity_id, policy.jit_required, policy.background_sync,
        policy.max_renewal_s, policy.risk_tier, policy.vendor_hosted, policy.valid_from, policy.valid_to
    FROM reg_names AS names
    INNER JOIN reg_identities_as_of AS policy ON names.identity_id = policy.identity_id
),
granted AS (
    SELECT
        event.tenant_id, alias.credential_key, event.op, event.event_uid, event.credential_issuer,
        coalesce(event.issued_at, event.event_time) AS issued_at,
        event.auth_time, event.family_id, event.environment, event.observer,
        CASE WHEN event.token_type LIKE '%refresh_token' THEN coalesce(event.issued_at, event.event_time)
            ELSE event.expires_at END AS expires_at,
        coalesce(event.actor_id, event.client_id) AS holder, event.actor_issuer AS holder_issuer,
        CASE WHEN event.family_id IS NOT NULL
            THEN coalesce(event.credential_issuer, '') || ' ' || event.family_id
            ELSE chain.root_key END AS held_key,
        chain.root_kind, chain.root_principal, chain.confidence
    FROM token_events AS event
    INNER JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.credential_id = alias.id
        AND event.credential_kind = alias.kind
        AND event.credential_issuer IS NOT DISTINCT FROM alias.issuer
    -- Every credential has its chain.  An inner join would let DuckDB pair events with chains by
    -- their tenant first, which is all with all.
    LEFT JOIN chains AS chain
        ON alias.tenant_id = chain.tenant_id AND alias.credential_key = chain.credential_key
    WHERE event.outcome = 'success'
        AND (event.op = 'refresh' OR (event.op = 'issue' AND event.family_id IS NOT NULL))
    UNION ALL
    -- Without a family the grant that the refreshes lead back to.
    SELECT
        root.tenant_id, root.credential_key, 'issue' AS op, grant_event.event_uid, root.issuer,
        root.issued_at, root.auth_time, root.family_id, root.environment, root.observer, root.expires_at,
        coalesce(root.actor_id, root.client_id) AS holder, root.actor_issuer AS holder_issuer,
        root.credential_key AS held_key, root_chain.root_kind, root_chain.root_principal,
        root_chain.confidence
    FROM credentials AS root
    INNER JOIN (
        SELECT tenant_id, parent_key AS credential_key FROM hops WHERE hop_kind = 'refresh'
        UNION
        -- Some issuers renew a token in place: its id stays and its end moves.
        SELECT same_id.tenant_id, same_id.credential_key
        FROM token_events AS event
        INNER JOIN credential_aliases AS same_id
            ON event.tenant_id = same_id.tenant_id AND event.credential_id = same_id.id
            AND event.credential_kind = same_id.kind
            AND event.credential_issuer IS NOT DISTINCT FROM same_id.issuer
        WHERE event.op = 'refresh' AND event.outcome = 'success' AND event.family_id IS NULL
    ) AS renewed
        ON root.tenant_id = renewed.tenant_id AND root.credential_key = renewed.credential_key
    INNER JOIN chains AS root_chain
        ON root.tenant_id = root_chain.tenant_id AND root.credential_key = root_chain.credential_key
    CROSS JOIN unnest(root.event_uids[1:1]) AS grant_event(event_uid)
    WHERE root.family_id IS NULL AND root.seen_issued AND root.credential_key = root_chain.root_key
        AND coalesce(root.issue_op, 'issue') <> 'refresh' AND root.issued_at IS NOT NULL
),
compared AS (
    SELECT
        *,
        max(auth_time) OVER (
            PARTITION BY tenant_id, held_key ORDER BY issued_at, event_uid
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS auth_before
    FROM granted
),
-- A grant, and a refresh that shows a newer sign-in, starts anew.
begun AS (
    SELECT
        *,
        max(CASE WHEN op <> 'refresh' OR auth_time > auth_before THEN issued_at END) OVER (
            PARTITION BY tenant_id, held_key ORDER BY issued_at, event_uid
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS begun_at,
        row_number() OVER (PARTITION BY tenant_id, held_key ORDER BY issued_at DESC, event_uid DESC) AS place
    FROM compared
),
families AS (
    SELECT
        tenant_id, held_key, begun_at,
        coalesce(begun_at, least(min(issued_at), coalesce(min(auth_time), min(issued_at)))) AS started_at,
        max(expires_at) AS renewed_until,
        count(*) FILTER (WHERE op = 'refresh') AS renewals,
        min(auth_time) AS auth_time,
        arg_max(credential_key, issued_at) AS credential_key,
        max(holder) FILTER (WHERE place <= $evidence_max) AS holder,
        max(holder_issuer) AS holder_issuer,
        min(root_principal) AS principal,
        bool_and(root_kind IN ('human_interactive', 'human_federated')) AS is_human,
        min(confidence) AS chain_confidence,
        max(environment) AS environment,
        max(observer) AS observer,
        max(issued_at) AS last_renewed_at,
        list(event_uid) FILTER (WHERE place <= $evidence_max OR op <> 'refresh') AS event_uids
    FROM begun
    GROUP BY tenant_id, held_key, begun_at
),
secret_steps AS (
    SELECT
        tenant_id, secret_id, op, event_uid, event_time, created_at, environment, observer,
        bound_identity_id, bound_identity_issuer,
        CASE WHEN op IN ('create', 'rotate') THEN event_time END AS begins_at,
        coalesce(expires_at, event_time + ttl_s * INTERVAL 1 SECOND) AS expires_at,
        max(coalesce(expires_at, event_time + ttl_s * INTERVAL 1 SECOND)) OVER (
            PARTITION BY tenant_id, secret_id ORDER BY event_time, event_uid
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS alive_until,
        row_number() OVER (PARTITION BY tenant_id, secret_id ORDER BY event_time, event_uid) AS step,
        row_number() OVER (PARTITION BY tenant_id, secret_id ORDER BY event_time DESC, event_uid DESC) AS place
    FROM secret_events
    WHERE op IN ('create', 'rotate', 'renew')
        -- A certificate or a signing key is made anew when it is renewed.
        AND coalesce(secret_kind, 'other') NOT IN ('x509', 'signing_key')
),
secret_begun AS (
    SELECT
        *,
        max(CASE
            WHEN begins_at IS NOT NULL THEN begins_at
            WHEN epoch(event_time) - epoch(alive_until) > $skew_s THEN event_time
            WHEN step = 1 THEN least(event_time, coalesce(created_at, event_time))
        END) OVER (
            PARTITION BY tenant_id, secret_id ORDER BY event_time, event_uid
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS started_at
    FROM secret_steps
),
leases AS (
    SELECT
        step.tenant_id, step.secret_id AS held_key, step.started_at,
        max(step.expires_at) AS renewed_until,
        count(*) FILTER (WHERE step.op = 'renew') AS renewals,
        max(step.bound_identity_id) AS holder, max(step.bound_identity_issuer) AS holder_issuer,
        max(step.environment) AS environment, max(step.observer) AS observer,
        max(step.event_time) AS last_renewed_at,
        list(step.event_uid) FILTER (WHERE step.place <= $evidence_max) AS event_uids
    FROM secret_begun AS step
    INNER JOIN secrets AS lease ON step.tenant_id = lease.tenant_id AND step.secret_id = lease.secret_id
    WHERE lease.status NOT IN ('revoked', 'deleted')
    GROUP BY step.tenant_id, step.secret_id, step.started_at
),
renewed AS (
    SELECT
        'family' AS held_as, family.tenant_id, family.held_key, family.started_at,
        family.renewed_until, family.renewals, family.auth_time, family.credential_key, family.holder,
        family.holder_issuer, family.principal, family.is_human, family.chain_confidence,
        family.environment, family.observer, family.last_renewed_at, family.event_uids
    FROM families AS family
    INNER JOIN credentials AS newest
        ON family.tenant_id = newest.tenant_id AND family.credential_key = newest.credential_key
    WHERE family.renewals > 0 AND newest.revoked_at IS NULL
    UNION ALL
    SELECT
        'lease' AS held_as, tenant_id, held_key, started_at, renewed_until, renewals,
        CAST(NULL AS TIMESTAMPTZ) AS auth_time, CAST(NULL AS VARCHAR) AS credential_key, holder,
        holder_issuer, CAST(NULL AS VARCHAR) AS principal, false AS is_human,
        CAST(NULL AS DOUBLE) AS chain_confidence, environment, observer, last_renewed_at, event_uids
    FROM leases
    WHERE renewals > 0
),
-- Who renews, and what the registry allowed them at that time.
allowed AS (
    SELECT
        renewed.held_as, renewed.tenant_id, renewed.held_key, renewed.started_at,
        min(policy.identity_id) AS identity_id,
        bool_or(policy.vendor_hosted) AS vendor_hosted,
        bool_or(policy.jit_required) AS jit_required,
        bool_or(policy.background_sync) AS background_sync,
        max(policy.max_renewal_s) AS max_renewal_s
    FROM renewed
    INNER JOIN policies AS policy
        ON renewed.holder = policy.name
        AND (policy.issuer IS NULL OR renewed.holder_issuer IS NULL OR policy.issuer = renewed.holder_issuer)
        AND renewed.last_renewed_at >= policy.valid_from AND renewed.last_renewed_at < policy.valid_to
    GROUP BY renewed.held_as, renewed.tenant_id, renewed.held_key, renewed.started_at
),
too_long AS (
    SELECT
        renewed.*, allowed.identity_id, allowed.vendor_hosted,
        epoch(renewed.renewed_until) - epoch(renewed.started_at) AS lasted_s,
        CASE
            WHEN allowed.max_renewal_s IS NOT NULL THEN allowed.max_renewal_s
            WHEN coalesce(allowed.jit_required, false) AND renewed.is_human THEN $max_jit_h * 3600
            ELSE $max_renewal_d * 86400
        END AS limit_s
    FROM renewed
    LEFT JOIN allowed
        ON renewed.held_as = allowed.held_as AND renewed.tenant_id = allowed.tenant_id
        AND renewed.held_key = allowed.held_key AND renewed.started_at = allowed.started_at
    WHERE NOT coalesce(allowed.background_sync, false) OR allowed.max_renewal_s IS NOT NULL
),
-- The few credentials that were used long after a person signed in; calls are read for them only.
signed_in AS (
    SELECT
        own.tenant_id, own.credential_key,
        CASE WHEN root.family_id IS NOT NULL
            THEN coalesce(root.issuer, '') || ' ' || root.family_id
            ELSE root.credential_key END AS held_key,
        greatest(own.auth_time, root.auth_time) AS auth_time,
        root.event_uids AS root_event_uids
    FROM credentials AS own
    INNER JOIN credentials AS root
        ON own.tenant_id = root.tenant_id AND own.root_key = root.credential_key
    WHERE epoch(own.last_used_at) - epoch(greatest(own.auth_time, root.auth_time))
        > least($human_session_high_h, $human_session_h) * 3600
),
-- Calls in the name of a person, by who acts; names are joined afterwards.
sessions AS (
    SELECT
        held.tenant_id, held.credential_key, held.held_key, held.auth_time, call.agent_id, call.agent_issuer,
        min(call.root_principal) AS principal, min(call.confidence) AS chain_confidence,
        max(call.event_time) AS acted_at, arg_max(call.event_uid, call.event_time) AS event_uid,
        max(call.environment) AS environment,
        max(call.observer) FILTER (WHERE call.observer <> 'agent_runtime') AS observer,
        any_value(held.root_event_uids) AS root_event_uids
    FROM signed_in AS held
    INNER JOIN calls AS call
        ON held.tenant_id = call.tenant_id AND held.credential_key = call.credential_key
    WHERE call.root_kind IN ('human_interactive', 'human_federated') AND call.outcome = 'success'
        AND call.link_confidence >= $link_confidence_min
    GROUP BY held.tenant_id, held.credential_key, held.held_key, held.auth_time, call.agent_id, call.agent_issuer
),
agents AS (
    SELECT
        sessions.tenant_id, sessions.credential_key, sessions.agent_id, sessions.agent_issuer,
        min(policy.identity_id) AS identity_id,
        bool_or(policy.vendor_hosted) AS vendor_hosted,
        bool_or(policy.background_sync) AS background_sync,
        max(policy.max_renewal_s) AS max_renewal_s,
        bool_or(policy.risk_tier = 'high') AS high_risk
    FROM sessions
    INNER JOIN policies AS policy
        ON sessions.agent_id = policy.name
        AND (policy.issuer IS NULL OR sessions.agent_issuer IS NULL OR policy.issuer = sessions.agent_issuer)
        AND sessions.acted_at >= policy.valid_from AND sessions.acted_at < policy.valid_to
    GROUP BY sessions.tenant_id, sessions.credential_key, sessions.agent_id, sessions.agent_issuer
),
old_sessions AS (
    SELECT
        sessions.*, agents.identity_id, agents.vendor_hosted,
        epoch(sessions.acted_at) - epoch(sessions.auth_time) AS lasted_s,
        greatest(
            CASE WHEN coalesce(agents.high_risk, false) THEN $human_session_high_h ELSE $human_session_h END * 3600,
            coalesce(agents.max_renewal_s, 0)
        ) AS limit_s
    FROM sessions
    LEFT JOIN agents
        ON sessions.tenant_id = agents.tenant_id AND sessions.credential_key = agents.credential_key
        AND sessions.agent_id = agents.agent_id
        AND sessions.agent_issuer IS NOT DISTINCT FROM agents.agent_issuer
    WHERE NOT coalesce(agents.background_sync, false)
),
found AS (
    SELECT
        held_as, tenant_id, held_key, 'renewed too long' AS reason, holder, principal, identity_id,
        vendor_hosted, credential_key, chain_confidence, environment, observer, lasted_s, limit_s,
        renewals, started_at, renewed_until, auth_time, started_at + limit_s * INTERVAL 1 SECOND AS first_seen,
        last_renewed_at AS last_seen, event_uids
    FROM too_long
    WHERE lasted_s > limit_s
    UNION ALL
    SELECT
        'family' AS held_as, tenant_id, held_key, 'acts on an old sign-in' AS reason, agent_id AS holder,
        principal, identity_id, vendor_hosted, credential_key, chain_confidence, environment,
        coalesce(observer, 'agent_runtime') AS observer, lasted_s, limit_s, 0 AS renewals,
        auth_time AS started_at, acted_at AS renewed_until, auth_time,
        auth_time + limit_s * INTERVAL 1 SECOND AS first_seen, acted_at AS last_seen,
        list_concat([event_uid], root_event_uids) AS event_uids
    FROM old_sessions
    WHERE lasted_s > limit_s
),
ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY tenant_id, held_as, held_key ORDER BY lasted_s DESC, last_seen DESC, holder, reason
        ) AS place
    FROM found
)
SELECT
    tenant_id,
    held_as,
    held_key,
    coalesce(max(holder) FILTER (WHERE place = 1), min(holder), max(held_key)) AS entity,
    coalesce(max(holder) FILTER (WHERE place = 1), 'Someone')
        || CASE WHEN bool_or(reason = 'renewed too long' AND place = 1) THEN ' renewed its access for '
            ELSE ' acts on a sign-in of ' END
        || CAST(CAST(floor(max(lasted_s) / 3600) AS BIGINT) AS VARCHAR) || ' hours'
        || CASE WHEN bool_or(reason = 'renewed too long' AND place = 1) THEN '' ELSE ' ago' END AS title,
    max(credential_key) FILTER (WHERE place = 1) AS credential_key,
    max(identity_id) FILTER (WHERE place = 1) AS identity_id,
    bool_or(coalesce(vendor_hosted, false)) AS vendor_hosted,
    min(chain_confidence) AS chain_confidence,
    max(environment) AS environment,
    max(observer) FILTER (WHERE place = 1) AS observer,
    list_sort(list_distinct(list(reason))) AS reasons,
    min(principal) AS principal,
    CAST(max(lasted_s) AS BIGINT) AS lasted_s,
    CAST(max(limit_s) FILTER (WHERE place = 1) AS BIGINT) AS limit_s,
    max(renewals) AS renewals,
    min(started_at) AS started_at,
    max(renewed_until) AS renewed_until,
    max(auth_time) AS auth_time,
    min(first_seen) AS first_seen,
    max(last_seen) AS last_seen,
    list_sort(list_distinct(flatten(list(event_uids)))) AS event_uids
FROM ranked
WHERE place <= $evidence_max
GROUP BY tenant_id, held_as, held_key
