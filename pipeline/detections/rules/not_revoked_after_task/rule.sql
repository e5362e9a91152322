-- A credential of an agent that must work just in time still held after its task had ended.
--
-- One row per credential.  No event says that a task is over, so it is over when nothing more
-- of it was seen for `idle_s`.  What lives no longer than `short_life_s` needs no revocation.
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
        min(coalesce(event.task_id, event.session_id)) AS task
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
    SELECT jit.tenant_id, jit.credential_key, coalesce(made.task, first_use.task) AS task
    FROM jit
    LEFT JOIN made ON jit.tenant_id = made.tenant_id AND jit.credential_key = made.credential_key
    LEFT JOIN used AS first_use
        ON jit.tenant_id = first_use.tenant_id AND jit.credential_key = first_use.credential_key
        AND first_use.place = 1
),
tasks AS (
    SELECT DISTINCT tenant_id, task FROM home WHERE task IS NOT NULL
),
seen AS (
    SELECT tasks.tenant_id, tasks.task, max(call.event_time) AS last_at
    FROM tasks
    INNER JOIN tool_calls AS call
        ON tasks.tenant_id = call.tenant_id AND tasks.task = coalesce(call.task_id, call.session_id)
    GROUP BY tasks.tenant_id, tasks.task
    UNION ALL
    SELECT tasks.tenant_id, tasks.task, max(event.event_time) AS last_at
    FROM tasks
    INNER JOIN token_events AS event
        ON tasks.tenant_id = event.tenant_id AND tasks.task = coalesce(event.task_id, event.session_id)
    WHERE event.op NOT IN ('revoke', 'consent_revoke')
    GROUP BY tasks.tenant_id, tasks.task
),
task_ends AS (
    SELECT tenant_id, task, max(last_at) AS last_at FROM seen GROUP BY tenant_id, task
),
-- Work that was handed on from a root goes on in its name, whatever task it is counted to;
-- where no task has a name, all work below one root is one task.
below_roots AS (
    SELECT
        call.tenant_id, call.root_key, max(call.event_time) AS last_at,
        max(call.event_time) FILTER (WHERE call.credential_key <> call.root_key) AS last_below_at
    FROM calls AS call
    INNER JOIN (
        SELECT DISTINCT root.tenant_id, root.root_key
        FROM credentials AS root
        INNER JOIN jit ON root.tenant_id = jit.tenant_id AND root.credential_key = jit.credential_key
    ) AS wanted
        ON call.tenant_id = wanted.tenant_id AND call.root_key = wanted.root_key
    GROUP BY call.tenant_id, call.root_key
),
ended AS (
    SELECT
        held.*, jit.identity_id, jit.class, jit.vendor_hosted, home.task,
        CASE
            WHEN home.task IS NULL THEN below_roots.last_at
            WHEN held.credential_key = chain.root_key
                THEN greatest(task_ends.last_at, coalesce(below_roots.last_below_at, task_ends.last_at))
            ELSE task_ends.last_at
        END AS last_at
    FROM held
    INNER JOIN jit ON held.tenant_id = jit.tenant_id AND held.credential_key = jit.credential_key
    INNER JOIN home ON held.tenant_id = home.tenant_id AND held.credential_key = home.credential_key
    INNER JOIN chains AS chain
        ON held.tenant_id = chain.tenant_id AND held.credential_key = chain.credential_key
    LEFT JOIN task_ends ON home.tenant_id = task_ends.tenant_id AND home.task = task_ends.task
    LEFT JOIN below_roots
        ON chain.tenant_id = below_roots.tenant_id AND chain.root_key = below_roots.root_key
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
