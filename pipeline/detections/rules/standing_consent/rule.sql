-- A consent that stands unused, or offline access in the hands of a just-in-time agent.
--
-- Variant `unused`: one row per person and agent, or per agent where the consent holds for
-- everybody.  Variant `offline`: one row per person and agent of a just-in-time class.
WITH named AS (
    SELECT name, min(identity_id) AS identity_id
    FROM reg_names
    GROUP BY name
    HAVING count(DISTINCT identity_id) = 1
),
-- A consent is known from its own event, or from a grant to a client that names it.
told AS (
    SELECT
        event.tenant_id, event.consent_id, event.subject_id,
        coalesce(event.client_id, event.actor_id) AS agent_name,
        event.op, event.event_time, event.event_uid, event.scopes, event.environment, event.observer,
        CASE WHEN event.op = 'consent_grant' THEN event.expires_at END AS expires_at,
        event.subject_kind, event.never_expires
    FROM token_events AS event
    WHERE event.outcome = 'success'
        AND (event.op IN ('consent_grant', 'consent_revoke') OR event.consent_id IS NOT NULL)
        AND (event.consent_id IS NOT NULL OR event.subject_id IS NOT NULL OR event.client_id IS NOT NULL)
),
-- Consents without an id are told apart by whom they hold for.
keyed AS (
    SELECT
        told.*, coalesce(named.identity_id, told.agent_name) AS agent,
        coalesce(told.consent_id, chr(31) || coalesce(told.subject_id, '*') || chr(31)
            || coalesce(named.identity_id, told.agent_name, '')) AS consent_key
    FROM told
    LEFT JOIN named ON told.agent_name = named.name
),
consents AS (
    SELECT
        tenant_id, consent_key,
        max(consent_id) AS consent_id,
        -- One consent for several people is an administrator's; so is one that names nobody.
        CASE WHEN count(DISTINCT subject_id) = 1 THEN max(subject_id) ELSE '*' END AS principal,
        arg_min(agent, event_time) FILTER (WHERE agent IS NOT NULL) AS agent,
        min(event_time) FILTER (WHERE op NOT IN ('consent_revoke', 'revoke')) AS granted_at,
        max(event_time) FILTER (WHERE op NOT IN ('consent_revoke', 'revoke')) AS last_told_at,
        max(event_time) FILTER (WHERE op = 'consent_revoke') AS revoked_at,
        max(expires_at) AS expires_at,
        max(environment) AS environment, max(observer) AS observer,
        list_sort(list_distinct(flatten(list(scopes)))) AS scopes,
        list(event_uid ORDER BY event_time, event_uid)[1:$evidence_max] AS event_uids
    FROM keyed
    GROUP BY tenant_id, consent_key
),
-- A consent ends with its revocation, or with that of everything that was granted on it.
alive AS (
    SELECT consents.*
    FROM consents
    LEFT JOIN (
        SELECT tenant_id, consent_id, bool_and(revoked_at IS NOT NULL) AS all_revoked
        FROM credentials
        WHERE consent_id IS NOT NULL
            AND revoke_target IN ('family', 'client', 'subject', 'agent', 'consent') IS NOT FALSE
        GROUP BY tenant_id, consent_id
    ) AS held
        ON consents.tenant_id = held.tenant_id AND consents.consent_id = held.consent_id
    WHERE (consents.revoked_at IS NULL OR consents.revoked_at < consents.granted_at)
        AND consents.granted_at IS NOT NULL AND consents.agent IS NOT NULL
        AND NOT coalesce(held.all_revoked, false)
),
-- Any token for this person and agent, and any call on one, is a use.
tokens AS (
    SELECT
        held.tenant_id, held.consent_id, held.subject_id, coalesce(named.identity_id, other.name) AS agent,
        max(greatest(held.issued_at, held.last_used_at)) AS used_at
    FROM credentials AS held
    CROSS JOIN unnest(list_distinct([held.client_id, held.actor_id])) AS other(name)
    LEFT JOIN named ON other.name = named.name
    WHERE other.name IS NOT NULL
    GROUP BY held.tenant_id, held.consent_id, held.subject_id, coalesce(named.identity_id, other.name)
),
acting AS (
    SELECT
        call.tenant_id, root.consent_id, call.subject_id, coalesce(named.identity_id, call.agent_id) AS agent,
        max(call.event_time) AS used_at
    FROM (
        SELECT tenant_id, root_key, subject_id, agent_id, max(event_time) AS event_time
        FROM calls
        WHERE outcome = 'success'
        GROUP BY tenant_id, root_key, subject_id, agent_id
    ) AS call
    LEFT JOIN credentials AS root ON call.tenant_id = root.tenant_id AND call.root_key = root.credential_key
    LEFT JOIN named ON call.agent_id = named.name
    GROUP BY call.tenant_id, root.consent_id, call.subject_id, coalesce(named.identity_id, call.agent_id)
),
uses AS (
    SELECT * FROM tokens
    UNION ALL
    SELECT * FROM acting
),
used_consents AS (
    SELECT tenant_id, consent_id, max(used_at) AS used_at FROM uses WHERE consent_id IS NOT NULL GROUP BY tenant_id, consent_id
),
used_pairs AS (
    SELECT tenant_id, subject_id, agent, max(used_at) AS used_at
    FROM uses
    GROUP BY tenant_id, subject_id, agent
),
used_agents AS (
    SELECT tenant_id, agent, max(used_at) AS used_at FROM uses GROUP BY tenant_id, agent
),
policies AS (
    SELECT identity_id, jit_required, background_sync, vendor_hosted FROM reg_identities
),
standing AS (
    SELECT
        alive.tenant_id, alive.principal, alive.agent, max(alive.granted_at) AS granted_at,
        max(greatest(
            alive.last_told_at, used_consents.used_at,
            CASE WHEN alive.principal = '*' THEN used_agents.used_at ELSE used_pairs.used_at END
        )) AS used_at,
        max(greatest(
            used_consents.used_at,
            CASE WHEN alive.principal = '*' THEN used_agents.used_at ELSE used_pairs.used_at END
        )) AS last_used_at,
        list_sort(list_distinct(list(alive.consent_id) FILTER (WHERE alive.consent_id IS NOT NULL))) AS consents,
        list_sort(list_distinct(flatten(list(alive.scopes)))) AS scopes,
        max(alive.environment) AS environment, max(alive.observer) AS observer,
        flatten(list(alive.event_uids)) AS event_uids
    FROM alive
    INNER JOIN rule_watermarks AS until ON alive.tenant_id = until.tenant_id
    LEFT JOIN used_consents
        ON alive.tenant_id = used_consents.tenant_id AND alive.consent_id = used_consents.consent_id
    LEFT JOIN used_pairs
        ON alive.tenant_id = used_pairs.tenant_id AND alive.principal = used_pairs.subject_id
        AND alive.agent = used_pairs.agent
    LEFT JOIN used_agents
        ON alive.tenant_id = used_agents.tenant_id AND alive.agent = used_agents.agent
    WHERE alive.expires_at IS NULL OR alive.expires_at > until.watermark
    GROUP BY alive.tenant_id, alive.principal, alive.agent
),
unused AS (
    SELECT
        'unused' AS variant, standing.tenant_id, standing.principal, standing.agent, standing.granted_at,
        standing.last_used_at, standing.consents, standing.scopes, standing.environment,
        standing.observer, policies.identity_id, policies.vendor_hosted,
        CAST(floor((epoch(until.watermark) - epoch(standing.used_at)) / 86400) AS BIGINT) AS unused_d,
        standing.used_at + $unused_d * INTERVAL 1 DAY AS first_seen,
        standing.used_at + $unused_d * INTERVAL 1 DAY AS last_seen,
        standing.event_uids
    FROM standing
    INNER JOIN rule_watermarks AS until ON standing.tenant_id = until.tenant_id
    LEFT JOIN policies ON standing.agent = policies.identity_id
    WHERE epoch(until.watermark) - epoch(standing.used_at) > $unused_d * 86400
        AND NOT coalesce(policies.background_sync, false)
),
-- Offline access: asked for as a scope, held as a refresh token, or kept as a secret.
offline_held AS (
    SELECT
        held.tenant_id, coalesce(held.subject_id, '*') AS principal,
        coalesce(held.actor_id, held.client_id) AS agent_name, held.actor_issuer AS agent_issuer,
        held.issued_at AS granted_at, held.last_used_at, held.consent_id, held.scopes,
        held.environment, held.observer, held.event_uids
    FROM credentials AS held
    INNER JOIN rule_watermarks AS until ON held.tenant_id = until.tenant_id
    WHERE held.revoked_at IS NULL AND held.seen_issued AND held.issued_at < until.watermark
        AND (list_contains(held.scopes, 'offline_access')
            OR (held.token_type LIKE '%refresh_token'
                AND (held.expires_at IS NULL OR held.expires_at > until.watermark)))
    UNION ALL
    SELECT
        secret.tenant_id, '*' AS principal, secret.bound_identity_id AS agent_name,
        secret.bound_identity_issuer AS agent_issuer, coalesce(secret.created_at, secret.first_seen) AS granted_at,
        secret.last_used_at, CAST(NULL AS VARCHAR) AS consent_id, secret.scopes, secret.environment,
        CAST(NULL AS VARCHAR) AS observer, secret.event_uids
    FROM secrets AS secret
    INNER JOIN rule_watermarks AS until ON secret.tenant_id = until.tenant_id
    WHERE secret.secret_kind = 'refresh_token' AND secret.status NOT IN ('revoked', 'deleted')
        AND (secret.expires_at IS NULL OR secret.expires_at > until.watermark)
        AND secret.first_seen < until.watermark
),
offline AS (
    SELECT
        'offline' AS variant, held.tenant_id, held.principal, policy.identity_id AS agent,
        min(held.granted_at) AS granted_at, max(held.last_used_at) AS last_used_at,
        list_sort(list_distinct(list(held.consent_id) FILTER (WHERE held.consent_id IS NOT NULL))) AS consents,
        list_sort(list_distinct(flatten(list(held.scopes)))) AS scopes,
        max(held.environment) AS environment, max(held.observer) AS observer,
        policy.identity_id, bool_or(policy.vendor_hosted) AS vendor_hosted,
        CAST(NULL AS BIGINT) AS unused_d,
        min(held.granted_at) AS first_seen, max(held.granted_at) AS last_seen,
        list_sort(list_distinct(flatten(list(held.event_uids[1:1]))))[1:$evidence_max] AS event_uids
    FROM offline_held AS held
    INNER JOIN reg_names AS names
        ON held.agent_name = names.name
        AND (names.issuer IS NULL OR held.agent_issuer IS NULL OR names.issuer = held.agent_issuer)
    INNER JOIN reg_identities_as_of AS policy
        ON names.identity_id = policy.identity_id
        AND held.granted_at >= policy.valid_from AND held.granted_at < policy.valid_to
    WHERE policy.jit_required AND NOT coalesce(policy.background_sync, false)
    GROUP BY held.tenant_id, held.principal, policy.identity_id
),
found AS (
    SELECT * FROM unused
    UNION ALL
    SELECT * FROM offline
)
SELECT
    tenant_id,
    variant,
    principal,
    agent,
    agent AS entity,
    CASE WHEN variant = 'offline' THEN agent || ', which must work just in time, holds offline access'
            || CASE WHEN principal = '*' THEN '' ELSE ' in the name of ' || principal END
        ELSE 'The consent of ' || CASE WHEN principal = '*' THEN 'everybody' ELSE principal END || ' for ' || agent
            || ' has not been used for ' || CAST(unused_d AS VARCHAR) || ' days' END AS title,
    identity_id,
    vendor_hosted,
    environment,
    observer,
    granted_at,
    last_used_at,
    unused_d,
    consents,
    scopes,
    first_seen,
    last_seen,
    list_sort(list_distinct(event_uids)) AS event_uids
FROM found
