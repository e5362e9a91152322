-- A refresh token was presented again after it had been rotated.
--
-- One row per issuer and grant family, or token where no family is known.  Rotation must be
-- shown: many servers let a refresh token be used again and again.  What the server itself
-- calls reuse needs no further proof.
WITH acts AS (
    SELECT
        event.tenant_id, event.event_uid, event.event_time, event.op, event.outcome, event.error,
        event.observer, event.environment, event.family_id, event.client_id, event.subject_id,
        event.cnf_thumbprint, event.revoke_reason, event.parents,
        event.credential_issuer, event.credential_kind, event.credential_id,
        own.credential_key AS own_key,
        contains(lower(coalesce(event.token_type, own.token_type, '')), 'refresh_token') AS is_refresh_token,
        -- It was there before this event, so the event acts on it instead of making it.
        coalesce(own.first_seen < event.event_time, false) AS is_old,
        coalesce(
            event.ext['src_ip'], event.ext['client_ip'], event.ext['source_ip'], event.ext['ip_address'], event.ext['ip'],
            event.ext['ipAddress']
        ) AS src_ip
    FROM token_events AS event
    LEFT JOIN credential_aliases AS alias
        ON event.tenant_id = alias.tenant_id AND event.credential_id = alias.id
        AND event.credential_kind = alias.kind AND event.credential_issuer IS NOT DISTINCT FROM alias.issuer
    LEFT JOIN credentials AS own
        ON alias.tenant_id = own.tenant_id AND alias.credential_key = own.credential_key
    WHERE event.op IN ('refresh', 'rotate', 'use', 'deny', 'revoke', 'reuse_detected', 'issue')
),
named_parents AS (
    SELECT acts.*, unnest(acts.parents) AS parent
    FROM acts
    WHERE acts.op IN ('refresh', 'rotate', 'deny', 'issue', 'reuse_detected')
),
-- Every time somebody showed a refresh token to the server.
shown AS (
    SELECT
        tenant_id, event_uid, event_time, op, outcome, error, observer, environment, family_id,
        client_id, subject_id, cnf_thumbprint, src_ip, own_key AS made_key, is_refresh_token AS made_refresh_token,
        parent.issuer AS issuer, parent.kind AS kind, parent.id AS id
    FROM named_parents
    WHERE parent.role = 'refresh'
    UNION ALL
    SELECT
        tenant_id, event_uid, event_time, op, outcome, error, observer, environment, family_id,
        client_id, subject_id, cnf_thumbprint, src_ip, CAST(NULL AS VARCHAR) AS made_key,
        op = 'rotate' AS made_refresh_token,
        credential_issuer AS issuer, credential_kind AS kind, credential_id AS id
    FROM acts
    WHERE credential_id IS NOT NULL
        AND array_length(list_filter(coalesce(parents, []), lambda x: x.role = 'refresh')) = 0
        AND (
            op = 'reuse_detected'
            OR (op IN ('refresh', 'deny') AND outcome = 'failure' AND (is_refresh_token OR op = 'refresh'))
            OR (op = 'use' AND is_refresh_token)
            -- It may name what it was given, not what it made.
            OR (op IN ('rotate', 'refresh') AND is_refresh_token AND is_old)
        )
),
keyed AS (
    SELECT
        shown.*,
        coalesce(alias.credential_key, concat_ws(chr(31), shown.issuer, shown.kind, shown.id)) AS token_key,
        held.credential_key, held.family_id AS held_family, held.client_id AS held_client,
        held.issued_at AS held_since,
        shown.op = 'reuse_detected'
            OR (shown.outcome = 'failure' AND regexp_matches(lower(coalesce(shown.error, '')), $reuse_words))
            AS is_called_reuse
    FROM shown
    LEFT JOIN credential_aliases AS alias
        ON shown.tenant_id = alias.tenant_id AND shown.id = alias.id AND shown.kind = alias.kind
        AND shown.issuer IS NOT DISTINCT FROM alias.issuer
    LEFT JOIN credentials AS held
        ON alias.tenant_id = held.tenant_id AND alias.credential_key = held.credential_key
),
renewed_from AS (
    SELECT DISTINCT tenant_id, token_key FROM keyed WHERE op IN ('refresh', 'rotate', 'issue') AND outcome = 'success'
),
family_turns AS (
    SELECT tenant_id, issuer, family_id, issued_at AS turned_at
    FROM credentials
    WHERE family_id IS NOT NULL AND seen_issued AND issue_op IN ('refresh', 'rotate')
        AND contains(lower(coalesce(token_type, '')), 'refresh_token')
),
turns AS (
    -- It gave another refresh token, known as one by its type or by what became of it.
    SELECT keyed.tenant_id, keyed.token_key, keyed.event_time AS turned_at
    FROM keyed
    LEFT JOIN renewed_from
        ON keyed.tenant_id = renewed_from.tenant_id AND keyed.made_key = renewed_from.token_key
    WHERE keyed.op IN ('refresh', 'rotate', 'issue') AND keyed.outcome = 'success'
        AND (keyed.made_refresh_token OR keyed.op = 'rotate' OR renewed_from.token_key IS NOT NULL)
    UNION ALL
    SELECT keyed.tenant_id, keyed.token_key, family_turns.turned_at
    FROM (
        SELECT DISTINCT tenant_id, token_key, issuer, held_family, held_since
        FROM keyed
        WHERE held_family IS NOT NULL
    ) AS keyed
    INNER JOIN family_turns
        ON keyed.tenant_id = family_turns.tenant_id AND keyed.held_family = family_turns.family_id
        AND keyed.issuer IS NOT DISTINCT FROM family_turns.issuer
        AND family_turns.turned_at > keyed.held_since
    UNION ALL
    SELECT acts.tenant_id, acts.own_key AS token_key, acts.event_time AS turned_at
    FROM acts
    WHERE acts.op = 'revoke' AND acts.outcome = 'success' AND acts.own_key IS NOT NULL
        AND regexp_matches(lower(coalesce(acts.revoke_reason, '')), $rotation_words)
    UNION ALL
    -- Revoked in the moment of its use: that is how some servers rotate.
    SELECT keyed.tenant_id, keyed.token_key, greatest(acts.event_time, keyed.event_time) AS turned_at
    FROM keyed
    INNER JOIN acts
        ON keyed.tenant_id = acts.tenant_id AND keyed.token_key = acts.own_key
    WHERE keyed.op IN ('refresh', 'rotate', 'issue') AND keyed.outcome = 'success'
        AND acts.op = 'revoke' AND acts.outcome = 'success'
        AND abs(epoch(acts.event_time) - epoch(keyed.event_time)) <= $reuse_grace_s
),
turned AS (
    SELECT tenant_id, token_key, min(turned_at) AS turned_at FROM turns GROUP BY tenant_id, token_key
),
-- One credential made is one presentation, however many report it.
presented AS (
    SELECT
        keyed.*, turned.turned_at,
        CASE WHEN keyed.is_called_reuse THEN 'detected'
            WHEN epoch(keyed.event_time) - epoch(turned.turned_at) > $reuse_grace_s THEN 'late' ELSE 'in time' END AS moment,
        row_number() OVER (
            PARTITION BY keyed.tenant_id, keyed.token_key, coalesce(keyed.made_key, keyed.event_uid)
            ORDER BY keyed.event_time, keyed.event_uid
        ) AS copy
    FROM keyed
    LEFT JOIN turned ON keyed.tenant_id = turned.tenant_id AND keyed.token_key = turned.token_key
),
suspects AS (
    SELECT
        tenant_id, token_key,
        coalesce(max(held_family), max(family_id)) AS family_id
    FROM presented
    GROUP BY tenant_id, token_key
    HAVING bool_or(copy = 1 AND moment <> 'in time')
),
made_calls AS (
    SELECT call.tenant_id, call.credential_key AS made_key, min(coalesce(call.workload_id, call.src_ip)) AS place
    FROM calls AS call
    INNER JOIN (
        SELECT DISTINCT presented.tenant_id, presented.made_key
        FROM presented
        INNER JOIN suspects
            ON presented.tenant_id = suspects.tenant_id AND presented.token_key = suspects.token_key
        WHERE presented.made_key IS NOT NULL
    ) AS made
        ON call.tenant_id = made.tenant_id AND call.credential_key = made.made_key
    GROUP BY call.tenant_id, call.credential_key
),
story AS (
    SELECT
        presented.*,
        suspects.family_id AS known_family,
        made_calls.place,
        row_number() OVER (
            PARTITION BY presented.tenant_id, presented.issuer, coalesce(suspects.family_id, presented.id)
            ORDER BY presented.event_time, presented.event_uid
        ) AS rank
    FROM presented
    INNER JOIN suspects
        ON presented.tenant_id = suspects.tenant_id AND presented.token_key = suspects.token_key
    LEFT JOIN made_calls
        ON presented.tenant_id = made_calls.tenant_id AND presented.made_key = made_calls.made_key
),
found AS (
    SELECT
        tenant_id, issuer, coalesce(known_family, id) AS reused_from,
        min(known_family) AS family_id,
        list_sort(list_distinct(list(coalesce(kind, '') || ' ' || id) FILTER (WHERE moment <> 'in time'))) AS tokens,
        min(credential_key) AS credential_key,
        coalesce(min(held_client), min(client_id), min(subject_id)) AS client,
        min(subject_id) AS subject_id,
        count(*) FILTER (WHERE copy = 1 AND moment = 'late') AS late_uses,
        count(*) FILTER (WHERE copy = 1 AND moment = 'late' AND outcome = 'success') AS late_successes,
        bool_or(is_called_reuse) AS is_detected,
        max(epoch(event_time) - epoch(turned_at)) AS longest_after_s,
        -- Both worked, and they did not come from one place.
        bool_or(outcome = 'success' AND moment = 'in time') AND bool_or(outcome = 'success' AND moment = 'late') AND (
            count(DISTINCT src_ip) FILTER (WHERE outcome = 'success') > 1
            OR count(DISTINCT cnf_thumbprint) FILTER (WHERE outcome = 'success') > 1
            OR count(DISTINCT client_id) FILTER (WHERE outcome = 'success') > 1
            OR count(DISTINCT place) FILTER (WHERE outcome = 'success') > 1
        ) AS is_elsewhere,
        list_sort(list_distinct(list(coalesce(src_ip, place)) FILTER (WHERE coalesce(src_ip, place) IS NOT NULL))) AS origins,
        min(environment) AS environment,
        coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list_distinct(list(event_uid) FILTER (WHERE rank <= $evidence_max OR moment <> 'in time'))) AS event_uids
    FROM story
    GROUP BY tenant_id, issuer, coalesce(known_family, id)
)
SELECT
    tenant_id,
    issuer,
    reused_from,
    coalesce(client, reused_from) AS entity,
    'A refresh token of ' || coalesce(client, 'an unknown client') || CASE
        WHEN is_elsewhere THEN ' was used twice, from different places'
        WHEN late_successes > 0 THEN ' worked again after it was rotated'
        ELSE ' was presented again after it was rotated'
    END AS title,
    CASE WHEN is_elsewhere THEN 5 ELSE 4 END AS severity,
    1.0 AS confidence,
    credential_key,
    environment,
    observer,
    family_id,
    tokens,
    subject_id,
    late_uses,
    late_successes,
    is_detected AS is_detected_by_server,
    is_elsewhere,
    origins,
    longest_after_s,
    first_seen,
    last_seen,
    list_slice(event_uids, 1, 2 * $evidence_max) AS event_uids
FROM found
