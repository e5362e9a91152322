-- T1 to T8: what ties an observation to a credential.  `rivals` is how many fit by that method.
CREATE OR REPLACE TEMP TABLE call_candidates AS
WITH RECURSIVE spans AS (
    SELECT tenant_id, trace_id, span_id, min(parent_span_id) AS parent_span_id
    FROM (
        SELECT tenant_id, trace_id, span_id, parent_span_id FROM obs
        UNION ALL SELECT tenant_id, trace_id, span_id, parent_span_id FROM tok
    ) AS seen
    WHERE trace_id IS NOT NULL AND span_id IS NOT NULL
    GROUP BY tenant_id, trace_id, span_id
),
ancestors AS (
    SELECT event_uid, tenant_id, trace_id, parent_span_id AS span_id, 1 AS steps
    FROM obs WHERE needs_inference AND trace_id IS NOT NULL AND parent_span_id IS NOT NULL
    UNION
    SELECT ancestors.event_uid, ancestors.tenant_id, ancestors.trace_id, spans.parent_span_id, steps + 1
    FROM ancestors
    JOIN spans ON spans.tenant_id = ancestors.tenant_id AND spans.trace_id = ancestors.trace_id
        AND spans.span_id = ancestors.span_id
    WHERE spans.parent_span_id IS NOT NULL AND steps < 32
),
needy AS (
    SELECT obs.*,
        list_transform(list_filter(list_append(presented_audience, tool_server), lambda one: one IS NOT NULL),
            lambda one: coalesce(server_of[place_name(one)], place_name(one))) AS places
    FROM obs CROSS JOIN server_names
    WHERE needs_inference
),
-- Who acts in a call, by every name that it gives; one name a row, so that joins stay on
-- equality: an OR would compare every call with every credential of the tenant.
needy_names AS (
    SELECT DISTINCT named.event_uid, coalesce(known.identity_id, named.name) AS acting_identity
    FROM (
        SELECT event_uid, agent_id AS name FROM needy
        UNION ALL SELECT event_uid, actor_id FROM needy
    ) AS named
    LEFT JOIN agent_lookup AS known ON known.name = named.name
    WHERE named.name IS NOT NULL
),
alive AS (
    SELECT cred.* EXCLUDE (audience), revocations.revoked_at, actors.identity_id AS acting_identity,
        list_transform(cred.audience, lambda one: coalesce(server_of[place_name(one)], place_name(one))) AS audience
    FROM cred
    CROSS JOIN server_names
    LEFT JOIN revocations USING (credential_key)
    LEFT JOIN actors ON actors.acting = cred.acting
    WHERE has_events AND seen_issued
),
in_context AS (
    SELECT needy.event_uid, alive.credential_key
    FROM needy JOIN alive ON alive.tenant_id = needy.tenant_id AND alive.session_id = needy.session_id
    UNION
    SELECT needy.event_uid, alive.credential_key
    FROM needy JOIN alive ON alive.tenant_id = needy.tenant_id AND alive.task_id = needy.task_id
),
-- What an agent holds where a call of its names no subject; what it holds on nobody's behalf but
-- its own has the subject of that call.
held AS (
    SELECT needy.event_uid, alive.credential_key,
        coalesce(alive.subject_id = alive.acting OR alive.subject_identity = alive.acting_identity, true) AS is_own
    FROM needy
    JOIN needy_names ON needy_names.event_uid = needy.event_uid
    JOIN alive ON alive.tenant_id = needy.tenant_id AND alive.acting_identity = needy_names.acting_identity
    WHERE needy.subject_id IS NULL AND len(needy.act_chain) = 0
        AND fits(alive.audience, needy.places) AND is_alive(alive.made_at, alive.expires_at, alive.revoked_at, needy.event_time)
),
found AS (
    SELECT needy.event_uid, alive.credential_key, 'T3' AS method, 0.95 AS confidence
    FROM needy JOIN alive ON alive.tenant_id = needy.tenant_id AND alive.cnf_thumbprint = needy.cnf_thumbprint
    WHERE fits(alive.audience, needy.places) AND is_alive(alive.made_at, alive.expires_at, alive.revoked_at, needy.event_time)
        AND (needy.credential_issuer IS NULL OR needy.credential_issuer = alive.issuer)
    UNION ALL
    SELECT needy.event_uid, alive.credential_key, 'T4', 0.85
    FROM needy JOIN alive ON alive.tenant_id = needy.tenant_id AND alive.txn_id = needy.txn_id
    WHERE fits(alive.audience, needy.places) AND len(alive.audience) > 0
        AND is_alive(alive.made_at, alive.expires_at, alive.revoked_at, needy.event_time)
    UNION ALL
    SELECT needy.event_uid, alive.credential_key, 'T5', 0.80
    FROM needy
    JOIN ancestors ON ancestors.event_uid = needy.event_uid
    JOIN alive ON alive.tenant_id = needy.tenant_id AND alive.trace_id = needy.trace_id
        AND alive.span_id = ancestors.span_id
    WHERE fits(alive.audience, needy.places) AND is_alive(alive.made_at, alive.expires_at, alive.revoked_at, needy.event_time)
    UNION ALL
    SELECT needy.event_uid, alive.credential_key, 'T6', 0.65
    FROM needy
    JOIN needy_names ON needy_names.event_uid = needy.event_uid
    JOIN alive ON alive.tenant_id = needy.tenant_id AND alive.acting_identity = needy_names.acting_identity
        AND alive.subject_identity = needy.subject_identity
    WHERE fits(alive.audience, needy.places) AND is_alive(alive.made_at, alive.expires_at, alive.revoked_at, needy.event_time)
        AND same_actors(needy.act_chain, needy.act_is_cut, alive.act_chain, alive.act_truncated)
        AND same_subject(alive.subject_identity, alive.subject_namespace, needy.subject_identity, needy.subject_namespace)
    UNION ALL
    SELECT event_uid, min(credential_key), 'T6', 0.65
    FROM held
    GROUP BY event_uid
    HAVING count(DISTINCT credential_key) = 1 AND bool_and(is_own)
    UNION ALL
    SELECT needy.event_uid, alive.credential_key, 'T7', 0.45
    FROM in_context
    JOIN needy ON needy.event_uid = in_context.event_uid
    JOIN alive ON alive.credential_key = in_context.credential_key
    JOIN needy_names ON needy_names.event_uid = needy.event_uid AND needy_names.acting_identity = alive.acting_identity
    WHERE is_alive(alive.made_at, alive.expires_at, alive.revoked_at, needy.event_time)
        AND (needy.subject_id IS NULL OR alive.subject_id IS NULL OR
            same_subject(alive.subject_identity, alive.subject_namespace, needy.subject_identity, needy.subject_namespace))
    UNION ALL
    SELECT * FROM (
        SELECT needy.event_uid, alive.credential_key, 'T8', 0.20
        FROM needy
        JOIN needy_names ON needy_names.event_uid = needy.event_uid
        JOIN alive ON alive.tenant_id = needy.tenant_id AND alive.acting_identity = needy_names.acting_identity
        WHERE is_alive(alive.made_at, alive.expires_at, alive.revoked_at, needy.event_time)
            AND (needy.subject_id IS NULL OR alive.subject_id IS NULL OR
                same_subject(alive.subject_identity, alive.subject_namespace, needy.subject_identity, needy.subject_namespace))
        QUALIFY row_number() OVER (PARTITION BY needy.event_uid
            ORDER BY alive.made_at DESC, alive.credential_key) = 1
    ) AS nearest
)
SELECT event_uid, credential_key, method, max(confidence) AS confidence,
    count(DISTINCT credential_key) OVER (PARTITION BY event_uid, method) AS rivals, 'inferred' AS evidence_class
FROM found
GROUP BY event_uid, credential_key, method
UNION ALL
SELECT obs.event_uid, named.credential_key,
    CASE WHEN obs.credential_kind IN ('ath', 'token_sha256') THEN 'T2' ELSE 'T1' END,
    CASE
        WHEN obs.evidence_rank < 2 OR obs.credential_issuer IS NULL THEN 0.90
        WHEN obs.credential_kind IN ('ath', 'token_sha256') THEN 0.98
        ELSE 1.00
    END,
    1, obs.evidence_class
FROM obs
JOIN credential_ids AS named ON named.id_key = obs.own_id_key
