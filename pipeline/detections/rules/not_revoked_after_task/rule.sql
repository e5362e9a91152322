-- A credential of an agent that must work just in time still held after its task had ended.
--
-- One row per credential.  No event says that a task is over, so it is over when nothing more
-- of it was seen for `idle_s`; a session that wakes up later is another task.  What lives no longer than `short_life_s` needs no revocation.
WITH held AS (
    SELECT
        tenant_id, credential_key, issuer, kind, id, observer, environment, scopes, issued_at,
        expires_at, never_expires, revoked_at, event_uids,
        coalesce(actor_id, client_id) AS named_holder,
        coalesce(actor_id, client_id, subject_id) AS holder,
        CASE WHEN actor_id IS NOT NULL THEN actor_issuer
            WHEN client_id IS NULL THEN subject_issuer END AS holder_issuer
    FROM credentials
    WHERE seen_issued AND issued_at IS NOT NULL
        AND (never_expires OR epoch(expires_at) - epoch(issued_at) > $short_life_s)
        -- A delegation record without a token of its own is policy, and a refresh token is
        -- standing access: neither is what a task was given.
        AND NOT (coalesce(issue_op, 'issue') = 'delegate' AND token_type IS NULL)
        AND coalesce(token_type, '') NOT LIKE '%refresh_token'
),
-- Where no issuer named a client or an actor, whoever calls with it holds it.
callers AS (
    SELECT held.tenant_id, held.credential_key, call.agent_id AS holder, call.agent_issuer AS holder_issuer
    FROM held
    INNER JOIN calls AS call
        ON held.tenant_id = call.tenant_id AND held.credential_key = call.credential_key
    WHERE held.named_holder IS NULL AND call.link_confidence >= $link_confidence_min
    GROUP BY held.tenant_id, held.credential_key, call.agent_id, call.agent_issuer
),
holders AS (
    SELECT tenant_id, credential_key, holder, holder_issuer FROM held
    UNION
    SELECT tenant_id, credential_key, holder, holder_issuer FROM callers
),
jit AS (
    SELECT
        held.tenant_id, held.credential_key, min(policy.identity_id) AS identity_id,
        min(policy.class) AS class, bool_or(policy.vendor_hosted) AS vendor_hosted
    FROM held
    INNER JOIN holders
        ON held.tenant_id = holders.tenant_id AND held.credential_key = holders.credential_key
    INNER JOIN reg_names AS names
        ON holders.holder = names.name
        AND (names.issuer IS NULL OR holders.holder_issuer IS NULL OR names.issuer = holders.holder_issuer)
    INNER JOIN reg_identities_as_of AS policy
        ON names.identity_id = policy.identity_id
        AND held.issued_at >= policy.valid_from AND held.issued_at < policy.valid_to
    WHERE policy.jit_required AND NOT coalesce(policy.background_sync, false)
    GROUP BY held.tenant_id, held.credential_key
),
made AS (
    SELECT
        held.tenant_id, held.credential_key,
        coalesce(min(event.task_id), min(event.session_id)) AS task, count(event.task_id) > 0 AS is_named
    FROM held
    INNER JOIN jit ON held.tenant_id = jit.tenant_id AND held.credential_key = jit.credential_key
    CROSS JOIN unnest(held.event_uids) AS mention(event_uid)
    INNER JOIN token_events AS event
        ON mention.event_uid = event.event_uid AND held.tenant_id = event.tenant_id
    WHERE event.op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate')
    GROUP BY held.tenant_id, held.credential_key
),
used AS (
    SELECT
        call.tenant_id, call.credential_key, call.event_uid, call.event_time, call.outcome,
        call.link_confidence, coalesce(call.task_id, call.session_id) AS task,
        call.task_id IS NOT NULL AS is_named,
        row_number() OVER (
            PARTITION BY call.tenant_id, call.credential_key ORDER BY call.event_time, call.event_uid
        ) AS place,
        row_number() OVER (
            PARTITION BY call.tenant_id, call.credential_key
            ORDER BY call.event_time DESC, call.event_uid DESC
        ) AS place_from_end
    FROM calls AS call
    INNER JOIN jit ON call.tenant_id = jit.tenant_id AND call.credential_key = jit.credential_key
),
-- The task that it was made for: the issuer's word, else that of the first call.
home AS (
    SELECT
        jit.tenant_id, jit.credential_key, coalesce(made.task, first_use.task) AS task,
        coalesce(CASE WHEN made.task IS NULL THEN first_use.is_named ELSE made.is_named END, false) AS is_named
    FROM jit
    LEFT JOIN made ON jit.tenant_id = made.tenant_id AND jit.credential_key = made.credential_key
    LEFT JOIN used AS first_use
        ON jit.tenant_id = first_use.tenant_id AND jit.credential_key = first_use.credential_key
        AND first_use.place = 1
),
-- Whose doings say that the task goes on.  Work that was handed on from a root goes on in its
-- name, whatever task it is counted to; where no task has a name, all work below one root is
-- one task.
lines AS (
    SELECT
        home.tenant_id, home.credential_key, home.task, home.is_named, chain.root_key,
        CASE
            WHEN home.task IS NULL THEN 'root ' || chain.root_key
            WHEN home.credential_key = chain.root_key THEN 'below ' || chain.root_key
            ELSE 'task ' || home.task
        END AS line
    FROM home
    INNER JOIN chains AS chain
        ON home.tenant_id = chain.tenant_id AND home.credential_key = chain.credential_key
),
task_lines AS (
    SELECT DISTINCT tenant_id, line, task FROM lines WHERE task IS NOT NULL
),
root_lines AS (
    SELECT DISTINCT tenant_id, line, root_key, task IS NULL AS is_whole
    FROM lines
    WHERE task IS NULL OR credential_key = root_key
),
doings AS (
    SELECT task_lines.tenant_id, task_lines.line, call.event_time
    FROM task_lines
    INNER JOIN tool_calls AS call
        ON task_lines.tenant_id = call.tenant_id
        AND task_lines.task = coalesce(call.task_id, call.session_id)
    UNION ALL
    SELECT task_lines.tenant_id, task_lines.line, event.event_time
    FROM task_lines
    INNER JOIN token_events AS event
        ON task_lines.tenant_id = event.tenant_id
        AND task_lines.task = coalesce(event.task_id, event.session_id)
    WHERE event.op NOT IN ('revoke', 'consent_revoke')
    UNION ALL
    SELECT root_lines.tenant_id, root_lines.line, call.event_time
    FROM root_lines
    INNER JOIN calls AS call
        ON root_lines.tenant_id = call.tenant_id AND root_lines.root_key = call.root_key
    WHERE root_lines.is_whole OR call.credential_key <> call.root_key
),
followed AS (
    SELECT
        tenant_id, line, event_time,
        lead(event_time) OVER (PARTITION BY tenant_id, line ORDER BY event_time) AS next_at
    FROM doings
),
-- After each of these nothing was seen for that long, or ever.
pauses AS (
    SELECT tenant_id, line, event_time AS last_at, next_at IS NULL AS is_last
    FROM followed
    WHERE next_at IS NULL OR epoch(next_at) - epoch(event_time) > $idle_s
),
ended AS (
    SELECT
        held.*, jit.identity_id, jit.class, jit.vendor_hosted, lines.task, pause.last_at
    FROM held
    INNER JOIN jit ON held.tenant_id = jit.tenant_id AND held.credential_key = jit.credential_key
    INNER JOIN lines ON held.tenant_id = lines.tenant_id AND held.credential_key = lines.credential_key
    INNER JOIN (
        SELECT
            lines.tenant_id, lines.credential_key,
            -- A task with a name goes on after a pause, as long as anything bears its name; a
            -- session that wakes up again is another task.
            coalesce(
                min(pauses.last_at) FILTER (
                    WHERE pauses.last_at >= held.issued_at AND (pauses.is_last OR NOT lines.is_named)
                ),
                max(pauses.last_at)
            ) AS last_at
        FROM lines
        INNER JOIN held
            ON lines.tenant_id = held.tenant_id AND lines.credential_key = held.credential_key
        INNER JOIN pauses ON lines.tenant_id = pauses.tenant_id AND lines.line = pauses.line
        GROUP BY lines.tenant_id, lines.credential_key
    ) AS pause
        ON held.tenant_id = pause.tenant_id AND held.credential_key = pause.credential_key
),
left_alive AS (
    SELECT
        ended.*,
        ended.last_at + $idle_s * INTERVAL 1 SECOND AS ended_at,
        ended.last_at + ($idle_s + $grace_s) * INTERVAL 1 SECOND AS judged_at
    FROM ended
    INNER JOIN rule_watermarks AS until ON ended.tenant_id = until.tenant_id
    WHERE epoch(ended.last_at) + $idle_s + $grace_s < epoch(until.watermark)
        AND (ended.revoked_at IS NULL
            OR epoch(ended.revoked_at) > epoch(ended.last_at) + $idle_s + $grace_s)
        AND (ended.never_expires
            OR epoch(ended.expires_at) - epoch(ended.last_at) - $idle_s - $grace_s > $remaining_s)
),
uses AS (
    SELECT
        used.tenant_id, used.credential_key,
        count(*) AS calls,
        count(*) FILTER (
            WHERE used.event_time > left_alive.ended_at AND used.outcome = 'success'
                AND used.link_confidence >= $link_confidence_min
        ) AS used_after,
        max(used.event_time) AS last_at,
        list(used.event_uid) FILTER (
            WHERE used.place_from_end <= $evidence_max OR used.place = 1
        ) AS event_uids
    FROM used
    INNER JOIN left_alive
        ON used.tenant_id = left_alive.tenant_id AND used.credential_key = left_alive.credential_key
    GROUP BY used.tenant_id, used.credential_key
),
rated AS (
    SELECT left_alive.tenant_id, left_alive.credential_key, max(catalogue.tier) AS tier
    FROM left_alive
    CROSS JOIN unnest(left_alive.scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue
        ON item.scope = catalogue.scope
        AND (catalogue.issuer IS NULL OR left_alive.issuer IS NULL OR catalogue.issuer = left_alive.issuer)
    GROUP BY left_alive.tenant_id, left_alive.credential_key
)
SELECT
    late.tenant_id,
    late.credential_key,
    late.holder AS entity,
    late.holder || CASE
        WHEN uses.used_after > 0 THEN ' used a credential again after the task that it was made for'
        WHEN late.never_expires THEN ' kept a credential without end after its task'
        ELSE ' kept a credential for ' || CAST(CAST(floor(
            (epoch(late.expires_at) - epoch(late.ended_at)) / 60) AS BIGINT) AS VARCHAR) || ' min after its task'
    END AS title,
    CASE WHEN uses.used_after > 0 THEN 4 WHEN rated.tier >= 3 THEN 3 ELSE 2 END AS severity,
    late.identity_id,
    late.vendor_hosted,
    late.class,
    late.environment,
    late.observer,
    late.issuer,
    late.kind,
    late.id AS credential_id,
    late.task,
    late.last_at AS task_last_seen_at,
    late.ended_at,
    late.expires_at,
    late.revoked_at,
    coalesce(uses.calls, 0) AS calls,
    coalesce(uses.used_after, 0) AS used_after,
    coalesce(rated.tier, 0) AS tier,
    late.judged_at AS first_seen,
    greatest(late.judged_at, coalesce(uses.last_at, late.judged_at)) AS last_seen,
    list_sort(list_distinct(list_concat(
        late.event_uids, coalesce(uses.event_uids, CAST([] AS VARCHAR[]))
    ))) AS event_uids
FROM left_alive AS late
LEFT JOIN uses ON late.tenant_id = uses.tenant_id AND late.credential_key = uses.credential_key
LEFT JOIN rated ON late.tenant_id = rated.tenant_id AND late.credential_key = rated.credential_key
