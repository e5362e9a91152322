-- An actor was refused again and again, and then got in with another credential.
--
-- One row per actor, place and credential that got in.  A step-up to which a person consented is
-- how it should go; so is the same authority renewed.  Refusals of expired credentials do not
-- count.
WITH refusals AS (
    SELECT
        call.tenant_id, call.event_uid, call.event_time, call.agent_id, call.credential_key, call.tool_name,
        call.action_class, call.root_key, call.required_scopes,
        coalesce(call.tool_server, '') AS tool_server,
        coalesce(call.resource, call.operation, call.tool_name) AS target,
        held.scopes, held.scope_known, held.expires_at, held.consent_id,
        coalesce(call.subject_id, call.root_principal, '') AS asked_by,
        coalesce(call.session_id, call.trace_id, call.task_id) AS context,
        row_number() OVER (
            PARTITION BY call.tenant_id, call.agent_id, coalesce(call.subject_id, call.root_principal, '')
            ORDER BY call.event_time, call.event_uid
        ) AS number
    FROM calls AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE (call.outcome = 'denied' OR (call.outcome = 'failure' AND call.decision_effect = 'deny'))
        AND (held.expires_at IS NULL OR held.expires_at > call.event_time)
),
-- The refusal that completes a burst, and the one that began it.
bursts AS (
    SELECT
        last.tenant_id, last.agent_id, last.asked_by, last.number AS last_number, first.number AS first_number,
        first.event_time AS began_at, last.event_time AS ended_at
    FROM refusals AS last
    INNER JOIN refusals AS first
        ON last.tenant_id = first.tenant_id AND last.agent_id = first.agent_id
        AND last.asked_by = first.asked_by AND last.number = first.number + $denied_min - 1
    WHERE epoch(last.event_time) - epoch(first.event_time) <= $window_s
),
-- Where the actor was refused in a burst, and until when a success there follows from it.
refused_at AS (
    SELECT
        refusal.tenant_id, refusal.agent_id, refusal.asked_by, refusal.tool_server, refusal.target,
        list_distinct(list(refusal.tool_name)) AS tools,
        list_distinct(list(refusal.action_class) FILTER (WHERE refusal.action_class <> 'read')) AS action_classes,
        list_distinct(flatten(list(refusal.required_scopes))) AS challenged,
        list_distinct(list(refusal.context) FILTER (WHERE refusal.context IS NOT NULL)) AS contexts,
        min(burst.began_at) AS began_at, max(burst.ended_at) AS ended_at
    FROM bursts AS burst
    INNER JOIN refusals AS refusal
        ON burst.tenant_id = refusal.tenant_id AND burst.agent_id = refusal.agent_id
        AND burst.asked_by = refusal.asked_by
        AND refusal.number BETWEEN burst.first_number AND burst.last_number
    GROUP BY refusal.tenant_id, refusal.agent_id, refusal.asked_by, refusal.tool_server, refusal.target
),
-- An agent that works for many people gets in for one where it was refused for another.
clientele AS (
    SELECT call.tenant_id, call.agent_id, count(DISTINCT coalesce(call.subject_id, call.root_principal)) AS principals
    FROM calls AS call
    INNER JOIN (SELECT DISTINCT tenant_id, agent_id FROM bursts) AS probing
        ON call.tenant_id = probing.tenant_id AND call.agent_id = probing.agent_id
    GROUP BY call.tenant_id, call.agent_id
),
tried_with AS (
    SELECT DISTINCT tenant_id, agent_id, credential_key, root_key, scopes, scope_known, consent_id FROM refusals
),
-- By what a success may follow a refusal: for the same principal, in the same session or task, or,
-- of an agent that works for few, at all.  One key each, for an OR would pair every call of an
-- agent with every refusal.
ways AS (
    SELECT refused.*, 'asked by ' || refused.asked_by AS way
    FROM refused_at AS refused
    UNION ALL
    SELECT refused.*, 'within ' || within.context AS way
    FROM refused_at AS refused
    CROSS JOIN unnest(refused.contexts) AS within(context)
    UNION ALL
    SELECT refused.*, 'anybody' AS way
    FROM refused_at AS refused
    INNER JOIN clientele
        ON refused.tenant_id = clientele.tenant_id AND refused.agent_id = clientele.agent_id
    WHERE clientele.principals <= $principals_max
),
attempts AS (
    SELECT
        call.tenant_id, call.event_uid, call.event_time, call.agent_id, call.credential_key, call.root_key,
        call.tool_name, call.tool_server AS server, call.action_class, call.resource_sensitivity, call.environment,
        call.observer, call.confidence, call.required_scopes,
        place.tool_server,
        place.target,
        unnest([
            'asked by ' || coalesce(call.subject_id, call.root_principal, ''),
            'within ' || coalesce(call.session_id, call.trace_id, call.task_id),
            'anybody'
        ]) AS way
    FROM calls AS call
    INNER JOIN (SELECT DISTINCT tenant_id, agent_id, tool_server, target FROM refused_at) AS place
        ON call.tenant_id = place.tenant_id AND call.agent_id = place.agent_id
        AND coalesce(call.tool_server, '') = place.tool_server
        AND coalesce(call.resource, call.operation, call.tool_name) = place.target
    WHERE call.outcome = 'success' AND call.link_confidence >= $link_confidence_min
),
successes AS (
    SELECT DISTINCT
        call.tenant_id, call.event_uid, call.event_time, call.agent_id, call.credential_key, call.root_key,
        call.tool_name, call.server, call.action_class, call.resource_sensitivity, call.environment,
        call.observer, call.confidence, refused.asked_by, refused.tool_server, refused.target, refused.began_at, refused.ended_at
    FROM attempts AS call
    INNER JOIN ways AS refused
        ON call.tenant_id = refused.tenant_id AND call.agent_id = refused.agent_id
        AND call.tool_server = refused.tool_server AND call.target = refused.target AND call.way = refused.way
    -- The same deed, not another one at the same place.
    WHERE (list_contains(refused.tools, call.tool_name) OR coalesce(list_contains(refused.action_classes, call.action_class), false))
        AND (
            array_length(call.required_scopes) = 0 OR array_length(refused.challenged) = 0
            OR array_length(list_filter(call.required_scopes, lambda scope: list_contains(refused.challenged, scope))) > 0
        )
        AND call.event_time > refused.began_at
        AND epoch(call.event_time) - epoch(refused.ended_at) <= $success_within_s
),
-- Only what comes after a completed burst: the last one before the success.  A burst lies in the
-- success's own stretch of time or in the one before.
entries AS (
    SELECT
        success.tenant_id, success.event_uid, success.event_time, success.agent_id, success.credential_key, success.root_key,
        success.tool_name, success.server, success.action_class, success.resource_sensitivity, success.environment,
        success.observer, success.confidence, success.asked_by, success.tool_server, success.target, success.began_at, success.ended_at,
        max(burst.ended_at) AS burst_ended_at, max(burst.began_at) AS burst_began_at,
        max(burst.first_number) AS first_number, max(burst.last_number) AS last_number
    FROM (
        SELECT *, unnest([0, 1]) AS back, CAST(floor(epoch(event_time) / $success_within_s) AS BIGINT) AS stretch
        FROM successes
    ) AS success
    INNER JOIN (
        SELECT *, CAST(floor(epoch(ended_at) / $success_within_s) AS BIGINT) AS stretch FROM bursts
    ) AS burst
        ON success.tenant_id = burst.tenant_id AND success.agent_id = burst.agent_id
        AND burst.asked_by = success.asked_by AND burst.stretch = success.stretch - success.back
    WHERE burst.ended_at < success.event_time
        AND epoch(success.event_time) - epoch(burst.ended_at) <= $success_within_s
    GROUP BY
        success.tenant_id, success.event_uid, success.event_time, success.agent_id, success.credential_key, success.root_key,
        success.tool_name, success.server, success.action_class, success.resource_sensitivity, success.environment,
        success.observer, success.confidence, success.asked_by, success.tool_server, success.target, success.began_at, success.ended_at
),
-- The same thing must have been refused with another credential, and not have worked before.
same_credential AS (
    SELECT DISTINCT entries.tenant_id, entries.event_uid
    FROM entries
    INNER JOIN tried_with AS tried
        ON entries.tenant_id = tried.tenant_id AND entries.agent_id = tried.agent_id
        AND entries.credential_key = tried.credential_key
),
-- The same grant without one scope more: another reason than authority.
same_authority AS (
    SELECT DISTINCT pairs.tenant_id, pairs.event_uid
    FROM (
        -- Distinct also keeps DuckDB from pairing credentials and refusals by their tenant first.
        SELECT DISTINCT entries.tenant_id, entries.event_uid, entries.credential_key, tried.scopes
        FROM entries
        INNER JOIN tried_with AS tried
            ON entries.tenant_id = tried.tenant_id AND entries.agent_id = tried.agent_id
            AND entries.root_key = tried.root_key
        WHERE tried.scope_known
    ) AS pairs
    INNER JOIN credentials AS used
        ON pairs.tenant_id = used.tenant_id AND pairs.credential_key = used.credential_key
    WHERE used.scope_known
        AND array_length(list_filter(used.scopes, lambda scope: NOT list_contains(pairs.scopes, scope))) = 0
),
judged AS (
    SELECT
        entries.*, used.issued_at, used.client_id, used.actor_id, used.subject_id, used.consent_id, used.issuer,
        used.id AS used_id, used.scopes AS used_scopes, used.event_uids AS used_events,
        root.consent_id AS root_consent, root.subject_kind AS root_subject_kind,
        -- Consent evidence: a person logged in, or consented, once the refusals had begun.
        (root.auth_time >= entries.burst_began_at OR root.consent_id IS NOT NULL OR root.grant_type IN (
            'authorization_code', 'device_code', 'urn:ietf:params:oauth:grant-type:device_code',
            'urn:openid:params:grant-type:ciba', 'ciba', 'interactive'
        ))
            AND coalesce(root.issued_at, root.first_seen) >= entries.burst_began_at
            OR used.auth_time >= entries.burst_began_at
            OR (used.consent_id IS NOT NULL AND old_consent.consent_id IS NULL AND used.issued_at >= entries.burst_began_at)
            AS is_consented,
        coalesce(
            used.issued_at >= entries.burst_began_at
            AND (used.client_id = entries.agent_id OR used.actor_id = entries.agent_id OR used.root_key = tried.root_key),
            false
        ) AS is_step_up
    FROM entries
    INNER JOIN credentials AS used
        ON entries.tenant_id = used.tenant_id AND entries.credential_key = used.credential_key
    LEFT JOIN credentials AS root
        ON entries.tenant_id = root.tenant_id AND coalesce(entries.root_key, entries.credential_key) = root.credential_key
    LEFT JOIN (
        SELECT DISTINCT tenant_id, agent_id, root_key FROM tried_with WHERE root_key IS NOT NULL
    ) AS tried
        ON entries.tenant_id = tried.tenant_id AND entries.agent_id = tried.agent_id AND used.root_key = tried.root_key
    LEFT JOIN (
        SELECT DISTINCT one.tenant_id, one.agent_id, coalesce(one.consent_id, top.consent_id) AS consent_id
        FROM tried_with AS one
        LEFT JOIN credentials AS top ON one.tenant_id = top.tenant_id AND one.root_key = top.credential_key
    ) AS old_consent
        ON entries.tenant_id = old_consent.tenant_id AND entries.agent_id = old_consent.agent_id
        AND used.consent_id = old_consent.consent_id
    LEFT JOIN same_credential
        ON entries.tenant_id = same_credential.tenant_id AND entries.event_uid = same_credential.event_uid
    LEFT JOIN same_authority
        ON entries.tenant_id = same_authority.tenant_id AND entries.event_uid = same_authority.event_uid
    WHERE same_credential.event_uid IS NULL AND same_authority.event_uid IS NULL
),
consents AS (
    SELECT tenant_id, consent_id, max(event_time) AS granted_at
    FROM token_events
    WHERE op = 'consent_grant' AND outcome = 'success' AND consent_id IS NOT NULL
    GROUP BY tenant_id, consent_id
),
unexplained AS (
    SELECT
        judged.*,
        row_number() OVER (
            PARTITION BY judged.tenant_id, judged.agent_id, judged.tool_server, judged.target, judged.credential_key
            ORDER BY judged.event_time, judged.event_uid
        ) AS place
    FROM judged
    LEFT JOIN consents
        ON judged.tenant_id = consents.tenant_id
        AND (judged.consent_id = consents.consent_id OR judged.root_consent = consents.consent_id)
        AND consents.granted_at >= judged.burst_began_at AND consents.granted_at <= judged.event_time
    WHERE NOT coalesce(judged.is_consented, false) AND consents.consent_id IS NULL
),
refused_before AS (
    SELECT
        first.tenant_id, first.event_uid AS entry_uid,
        count(*) AS refused,
        list_sort(list_distinct(flatten(list(refusal.required_scopes)))) AS challenged_scopes,
        list_sort(list_distinct(list(refusal.tool_name))) AS refused_tools,
        min(refusal.event_time) AS began_at,
        list_slice(list_sort(list(refusal.event_uid)), 1, $evidence_max) AS event_uids
    FROM (SELECT * FROM unexplained WHERE place = 1) AS first
    INNER JOIN refusals AS refusal
        ON first.tenant_id = refusal.tenant_id AND first.agent_id = refusal.agent_id
        AND first.asked_by = refusal.asked_by AND refusal.number BETWEEN first.first_number AND first.last_number
    GROUP BY first.tenant_id, first.event_uid
)
SELECT
    found.tenant_id,
    found.agent_id,
    found.tool_server,
    found.target,
    found.credential_key,
    found.agent_id AS entity,
    found.agent_id || ' was refused ' || CAST(before.refused AS VARCHAR) || ' times and then reached '
        || found.target || ' with another credential' AS title,
    CASE WHEN found.is_step_up THEN 3 ELSE 4 END AS severity,
    found.confidence,
    found.confidence AS chain_confidence,
    CASE WHEN found.action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        THEN found.action_class END AS action_class,
    found.resource_sensitivity,
    found.environment,
    found.observer,
    found.is_step_up,
    found.issuer,
    found.used_id,
    found.used_scopes,
    found.client_id AS used_client,
    found.subject_id AS used_subject,
    found.consent_id,
    before.refused,
    before.challenged_scopes,
    before.refused_tools,
    before.began_at AS first_seen,
    found.event_time AS last_seen,
    list_sort(list_distinct(list_concat(
        list_append(before.event_uids, found.event_uid), found.used_events
    ))) AS event_uids
FROM unexplained AS found
INNER JOIN refused_before AS before
    ON found.tenant_id = before.tenant_id AND found.event_uid = before.entry_uid
WHERE found.place = 1
