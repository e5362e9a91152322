-- A token that was bound to a key lost its binding, or was used with another key.
--
-- Four variants.  mismatch, unproven: one row per credential, by its uses.  dropped: one row
-- per party and issuer whose exchanged tokens are bearer tokens although the subject token was
-- bound.  required: one row per identity whose class asks for a bound token and holds bearer.
WITH tokens AS (
    SELECT
        tenant_id, credential_key, issuer, kind, id, actor_id, actor_issuer, client_id, subject_id,
        coalesce(actor_id, client_id, subject_id) AS holder,
        -- Base64 may be padded or not, and a prefix may name the method.
        rtrim(regexp_replace(cnf_thumbprint, '^(jkt|x5t#S256|x5t|sha256|SHA256)[:=]', ''), '=') AS thumbprint,
        token_type, environment, observer, seen_issued, first_seen, last_seen, event_uids,
        ends_with(replace(lower(coalesce(token_type, '')), '-', '_'), 'txn_token')
            OR ends_with(replace(lower(coalesce(token_type, '')), '-', '_'), 'id_jag')
            OR ends_with(lower(coalesce(token_type, '')), 'id_token')
            OR contains(lower(coalesce(token_type, '')), 'saml')
            OR contains(lower(coalesce(grant_type, '')), 'jwt-bearer') AND token_type IS NULL
            AS is_unbound_by_design,
        lower(coalesce(token_type, '')) IN ('dpop', 'pop', 'mtls') AS is_bound_by_type
    FROM credentials
    WHERE NOT coalesce(is_static, false) AND kind IN ('jti', 'uti', 'ath', 'token_sha256', 'local')
),
-- An issuer that never logs a binding may bind every token.
binding_issuers AS (
    SELECT DISTINCT tenant_id, issuer FROM tokens WHERE thumbprint IS NOT NULL AND seen_issued
),
gateways AS (
    SELECT names.name, period.valid_from, period.valid_to
    FROM reg_identities_as_of AS period
    INNER JOIN reg_names AS names ON period.identity_id = names.identity_id
    WHERE period.pass_through
),
uses AS (
    SELECT
        tenant_id, credential_key, event_uid, event_time, source, observer, agent_id, workload_id, src_ip,
        rtrim(regexp_replace(cnf_thumbprint, '^(jkt|x5t#S256|x5t|sha256|SHA256)[:=]', ''), '=') AS thumbprint,
        tool_name, action_class, resource_sensitivity
    FROM calls
    WHERE outcome = 'success' AND link_method IN ('T1', 'T2') AND link_confidence >= $link_confidence_min
    UNION ALL
    SELECT
        event.tenant_id, alias.credential_key, event.event_uid, event.event_time, event.source, event.observer,
        coalesce(event.actor_id, event.client_id) AS agent_id, CAST(NULL AS VARCHAR) AS workload_id,
        CAST(NULL AS VARCHAR) AS src_ip,
        rtrim(regexp_replace(event.cnf_thumbprint, '^(jkt|x5t#S256|x5t|sha256|SHA256)[:=]', ''), '=') AS thumbprint,
        'token use' AS tool_name, CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity
    FROM (SELECT * FROM token_events WHERE op = 'use' AND outcome = 'success' AND cnf_thumbprint IS NOT NULL) AS event
    INNER JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.credential_id = alias.id
        AND event.credential_kind = alias.kind
        AND coalesce(event.credential_issuer, '') = coalesce(alias.issuer, '')
),
bound_uses AS (
    SELECT
        uses.*, tokens.thumbprint AS issued_thumbprint, tokens.issuer,
        -- A hexadecimal digest and a base64 one may be the same digest.
        regexp_matches(uses.thumbprint, '^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}|([0-9A-Fa-f]{2}:)+[0-9A-Fa-f]{2})$')
            <> regexp_matches(tokens.thumbprint, '^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}|([0-9A-Fa-f]{2}:)+[0-9A-Fa-f]{2})$')
            AS is_other_form
    FROM uses
    INNER JOIN tokens ON uses.tenant_id = tokens.tenant_id AND uses.credential_key = tokens.credential_key
    WHERE tokens.thumbprint IS NOT NULL
),
-- A source that wrote the right key down for some token would have written it for this one.
proving_sources AS (
    SELECT DISTINCT tenant_id, source, issuer
    FROM bound_uses
    WHERE thumbprint = issued_thumbprint
),
unlike AS (
    SELECT
        bound.*,
        CASE WHEN bound.thumbprint IS NULL THEN 'unproven' ELSE 'mismatch' END AS variant
    FROM bound_uses AS bound
    LEFT JOIN proving_sources AS proving
        ON bound.tenant_id = proving.tenant_id AND bound.source = proving.source
        AND coalesce(bound.issuer, '') = coalesce(proving.issuer, '')
    LEFT JOIN gateways AS by_agent
        ON bound.agent_id = by_agent.name
        AND bound.event_time >= by_agent.valid_from AND bound.event_time < by_agent.valid_to
    LEFT JOIN gateways AS by_workload
        ON bound.workload_id = by_workload.name
        AND bound.event_time >= by_workload.valid_from AND bound.event_time < by_workload.valid_to
    WHERE by_agent.name IS NULL AND by_workload.name IS NULL
        AND (
            (bound.thumbprint IS NULL AND proving.source IS NOT NULL)
            -- A digest written in upper or lower case is one digest.
            OR (NOT bound.is_other_form AND lower(bound.thumbprint) <> lower(bound.issued_thumbprint))
        )
),
placed AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY tenant_id, credential_key, variant ORDER BY event_time, event_uid
        ) AS place
    FROM unlike
),
use_found AS (
    SELECT
        placed.tenant_id, placed.variant, placed.credential_key AS place_key, placed.credential_key,
        coalesce(min(placed.agent_id) FILTER (WHERE placed.place = 1), min(tokens.holder), min(tokens.id)) AS entity,
        CASE WHEN placed.variant = 'mismatch' THEN 5 ELSE 3 END AS severity,
        max(placed.action_class) FILTER (
            WHERE placed.action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(placed.resource_sensitivity) AS resource_sensitivity,
        min(tokens.environment) AS environment,
        coalesce(max(placed.observer) FILTER (WHERE placed.observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        min(placed.issuer) AS issuer, min(placed.issued_thumbprint) AS issued_thumbprint,
        list_sort(list_distinct(list(coalesce(placed.thumbprint, '(none)')) FILTER (WHERE placed.place <= $evidence_max)))
            AS presented,
        list_sort(list_distinct(list(placed.tool_name) FILTER (WHERE placed.place <= $evidence_max))) AS used_for,
        CAST(NULL AS VARCHAR) AS identity_id,
        count(*) AS occurrences, min(placed.event_time) AS first_seen, max(placed.event_time) AS last_seen,
        list_concat(list(placed.event_uid) FILTER (WHERE placed.place <= $evidence_max), any_value(tokens.event_uids))
            AS event_uids
    FROM placed
    INNER JOIN tokens ON placed.tenant_id = tokens.tenant_id AND placed.credential_key = tokens.credential_key
    GROUP BY placed.tenant_id, placed.variant, placed.credential_key
),
-- DISTINCT changes no row: without it the planner pairs parents and children by their tenant.
bound_hops AS (
    SELECT DISTINCT
        hop.tenant_id, hop.child_key, hop.hop_time, parent.thumbprint AS issued_thumbprint,
        parent.event_uids
    FROM hops AS hop
    INNER JOIN tokens AS parent ON hop.tenant_id = parent.tenant_id AND hop.parent_key = parent.credential_key
    WHERE hop.hop_kind IN ('exchange', 'refresh') AND parent.thumbprint IS NOT NULL
),
dropped AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.hop_time, child.holder, child.issuer,
        child.environment, child.observer, hop.issued_thumbprint,
        list_concat(child.event_uids, hop.event_uids) AS event_uids,
        row_number() OVER (
            PARTITION BY hop.tenant_id, child.holder, child.issuer ORDER BY hop.hop_time, hop.child_key
        ) AS place
    FROM bound_hops AS hop
    INNER JOIN tokens AS child ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    LEFT JOIN binding_issuers AS binding
        ON child.tenant_id = binding.tenant_id AND coalesce(child.issuer, '') = coalesce(binding.issuer, '')
    LEFT JOIN gateways AS gateway
        ON (child.actor_id = gateway.name OR child.client_id = gateway.name)
        AND hop.hop_time >= gateway.valid_from AND hop.hop_time < gateway.valid_to
    WHERE child.thumbprint IS NULL
        AND child.seen_issued AND NOT child.is_unbound_by_design AND NOT child.is_bound_by_type
        AND (binding.tenant_id IS NOT NULL OR ends_with(lower(coalesce(child.token_type, '')), 'bearer'))
        AND gateway.name IS NULL
),
hop_found AS (
    SELECT
        tenant_id, 'dropped' AS variant, concat(coalesce(issuer, ''), ' ', holder) AS place_key,
        min(child_key) FILTER (WHERE place = 1) AS credential_key,
        holder AS entity, 3 AS severity,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity,
        min(environment) AS environment, min(observer) AS observer, issuer,
        min(issued_thumbprint) AS issued_thumbprint, ['(none)'] AS presented,
        CAST([] AS VARCHAR[]) AS used_for, CAST(NULL AS VARCHAR) AS identity_id,
        count(*) AS occurrences, min(hop_time) AS first_seen, max(hop_time) AS last_seen,
        flatten(list(event_uids) FILTER (WHERE place <= $evidence_max)) AS event_uids
    FROM dropped
    GROUP BY tenant_id, holder, issuer
),
-- A class that requires possession: tokens made for it, or presented by it, without a key.
held_bearer AS (
    SELECT
        tokens.tenant_id, tokens.credential_key, tokens.issuer, tokens.environment, tokens.observer,
        tokens.event_uids, tokens.first_seen AS seen_at, names.identity_id
    FROM tokens
    INNER JOIN reg_names AS names
        ON tokens.holder = names.name
        AND (names.issuer IS NULL OR tokens.actor_issuer IS NULL OR names.issuer = tokens.actor_issuer)
    WHERE tokens.seen_issued AND tokens.thumbprint IS NULL AND NOT tokens.is_unbound_by_design
        AND NOT tokens.is_bound_by_type
),
proven_later AS (
    SELECT DISTINCT tenant_id, credential_key FROM uses WHERE thumbprint IS NOT NULL
),
required AS (
    SELECT
        held_bearer.*, period.vendor_hosted,
        row_number() OVER (
            PARTITION BY held_bearer.tenant_id, held_bearer.identity_id, held_bearer.issuer
            ORDER BY held_bearer.seen_at, held_bearer.credential_key
        ) AS place
    FROM held_bearer
    INNER JOIN reg_identities_as_of AS period
        ON held_bearer.identity_id = period.identity_id
        AND held_bearer.seen_at >= period.valid_from AND held_bearer.seen_at < period.valid_to
    LEFT JOIN proven_later
        ON held_bearer.tenant_id = proven_later.tenant_id
        AND held_bearer.credential_key = proven_later.credential_key
    LEFT JOIN dropped
        ON held_bearer.tenant_id = dropped.tenant_id AND held_bearer.credential_key = dropped.child_key
    WHERE period.pop_required AND proven_later.credential_key IS NULL
        -- Already told where the binding was lost.
        AND dropped.child_key IS NULL
),
required_found AS (
    SELECT
        tenant_id, 'required' AS variant, concat(coalesce(issuer, ''), ' ', identity_id) AS place_key,
        min(credential_key) FILTER (WHERE place = 1) AS credential_key,
        identity_id AS entity, 3 AS severity,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity,
        min(environment) AS environment, min(observer) AS observer, issuer,
        CAST(NULL AS VARCHAR) AS issued_thumbprint, ['(none)'] AS presented,
        CAST([] AS VARCHAR[]) AS used_for, identity_id,
        count(*) AS occurrences, min(seen_at) AS first_seen, max(seen_at) AS last_seen,
        flatten(list(event_uids) FILTER (WHERE place <= $evidence_max)) AS event_uids
    FROM required
    GROUP BY tenant_id, identity_id, issuer
),
found AS (
    SELECT * FROM use_found
    UNION ALL
    SELECT * FROM hop_found
    UNION ALL
    SELECT * FROM required_found
)
SELECT
    found.tenant_id,
    found.variant,
    found.place_key,
    found.entity,
    CASE found.variant
        WHEN 'mismatch' THEN 'A token was used with another key than the one it is bound to, by ' || found.entity
        WHEN 'unproven' THEN 'A bound token of ' || found.entity || ' was accepted without its key'
        WHEN 'dropped' THEN 'A bound token became a bearer token at an exchange of ' || found.entity
        ELSE found.entity || ' holds bearer tokens although its class requires proof of possession'
    END AS title,
    found.severity,
    found.credential_key,
    chain.confidence,
    chain.confidence AS chain_confidence,
    found.action_class,
    found.resource_sensitivity,
    found.environment,
    found.observer,
    found.identity_id,
    found.issuer,
    found.issued_thumbprint,
    found.presented,
    found.used_for,
    found.occurrences,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(found.event_uids)) AS event_uids
FROM found
LEFT JOIN chains AS chain
    ON found.tenant_id = chain.tenant_id AND found.credential_key = chain.credential_key
