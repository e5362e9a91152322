-- A secret is read by somebody who is no consumer of it, or many secrets by one within minutes.
--
-- One row per reader and secret (variant `reader`), or per reader for all secrets of a sweep
-- (variant `sweep`).  Consumers are those that an event of the secret lists, its own holder,
-- those whom the registry approves, and those who read it ever since its first week.  Where no
-- store tells of reads, calls that read secrets do: by them a sweep shows, not who should read.
WITH named AS (
    SELECT name, min(identity_id) AS identity_id
    FROM reg_names
    GROUP BY name
    HAVING count(DISTINCT identity_id) = 1
),
store_reads AS (
    SELECT
        event.tenant_id, event.secret_id, event.event_uid, event.event_time, event.observer,
        event.environment, event.accessed_by_id AS read_by,
        coalesce(named.identity_id, event.accessed_by_id) AS reader, named.identity_id
    FROM secret_events AS event
    LEFT JOIN named ON event.accessed_by_id = named.name
    WHERE event.op = 'read' AND event.accessed_by_id IS NOT NULL
),
reads AS (
    SELECT *, false AS is_call FROM store_reads
    UNION ALL
    SELECT
        call.tenant_id, call.resource AS secret_id, call.event_uid, call.event_time, call.observer,
        call.environment, call.agent_id AS read_by, coalesce(named.identity_id, call.agent_id) AS reader,
        named.identity_id, true AS is_call
    FROM tool_calls AS call
    LEFT JOIN named ON call.agent_id = named.name
    LEFT JOIN (SELECT DISTINCT tenant_id FROM store_reads) AS told ON call.tenant_id = told.tenant_id
    WHERE call.action_class = 'secret_read' AND call.outcome = 'success' AND call.resource IS NOT NULL
        AND told.tenant_id IS NULL
),
-- Who saw the reads of one reader, best.
seen_by AS (
    SELECT tenant_id, reader, max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer
    FROM reads
    GROUP BY tenant_id, reader
),
listed AS (
    SELECT DISTINCT event.tenant_id, event.secret_id, coalesce(named.identity_id, item.consumer) AS reader
    FROM secret_events AS event
    CROSS JOIN unnest(event.consumers) AS item(consumer)
    LEFT JOIN named ON item.consumer = named.name
),
bound AS (
    SELECT DISTINCT
        secret.tenant_id, secret.secret_id, coalesce(named.identity_id, secret.bound_identity_id) AS reader,
        named.identity_id IS NOT NULL AS is_registered
    FROM secrets AS secret
    LEFT JOIN named ON secret.bound_identity_id = named.name
    WHERE secret.bound_identity_id IS NOT NULL
),
-- Approvals as of now: who was approved later was registered because of this finding.
approvals AS (
    SELECT identity.identity_id AS reader, item.pattern
    FROM reg_identities AS identity
    CROSS JOIN unnest(identity.approved_secrets) AS item(pattern)
),
read_secrets AS (
    SELECT DISTINCT tenant_id, secret_id FROM reads
),
approved AS (
    SELECT DISTINCT read_secrets.tenant_id, read_secrets.secret_id, approvals.reader
    FROM read_secrets
    INNER JOIN approvals ON read_secrets.secret_id = approvals.pattern
    UNION
    SELECT folder.tenant_id, folder.secret_id, approvals.reader
    FROM read_secrets AS folder
    INNER JOIN approvals
        ON approvals.pattern LIKE '%*'
        AND starts_with(folder.secret_id, left(approvals.pattern, length(approvals.pattern) - 1))
),
consumers AS (
    SELECT tenant_id, secret_id, reader FROM listed
    UNION
    SELECT tenant_id, secret_id, reader FROM bound
    UNION
    SELECT tenant_id, secret_id, reader FROM approved
),
-- Whose consumers somebody wrote down.  Whom a secret authenticates says so only where the
-- registry knows that one: a database account reads no secrets.
known_consumers AS (
    SELECT tenant_id, secret_id, list_sort(list_distinct(list(reader))) AS expected
    FROM (
        SELECT tenant_id, secret_id, reader FROM listed
        UNION ALL
        SELECT tenant_id, secret_id, reader FROM bound WHERE is_registered
        UNION ALL
        -- A whole folder that somebody may read does not say who else may.
        SELECT approved.tenant_id, approved.secret_id, approved.reader
        FROM approved
        INNER JOIN approvals ON approved.reader = approvals.reader AND approved.secret_id = approvals.pattern
    ) AS written
    GROUP BY tenant_id, secret_id
),
readers AS (
    SELECT
        tenant_id, secret_id, reader, min(identity_id) AS identity_id, min(read_by) AS read_by,
        min(event_time) AS first_at, max(event_time) AS last_at, count(*) AS reads, bool_or(is_call) AS is_call,
        min(min(event_time)) OVER (PARTITION BY tenant_id, secret_id) AS secret_first_at
    FROM reads
    GROUP BY tenant_id, secret_id, reader
),
judged AS (
    SELECT
        readers.*, known_consumers.expected,
        -- From the first week on and beyond it: it was always read by this one.
        epoch(readers.first_at) - epoch(readers.secret_first_at) <= $history_d * 86400
            AND epoch(readers.last_at) - epoch(readers.secret_first_at) > $history_d * 86400 AS is_habit,
        epoch(readers.first_at) - epoch(readers.secret_first_at) > $history_d * 86400 AS is_newcomer,
        consumers.reader IS NOT NULL OR coalesce(registered.pass_through, false) AS is_consumer
    FROM readers
    LEFT JOIN consumers
        ON readers.tenant_id = consumers.tenant_id AND readers.secret_id = consumers.secret_id
        AND readers.reader = consumers.reader
    LEFT JOIN known_consumers
        ON readers.tenant_id = known_consumers.tenant_id AND readers.secret_id = known_consumers.secret_id
    LEFT JOIN reg_identities AS registered ON readers.identity_id = registered.identity_id
),
strangers AS (
    SELECT * FROM judged WHERE NOT is_consumer AND NOT is_habit
),
unexpected AS (
    SELECT * FROM strangers WHERE NOT is_call AND (expected IS NOT NULL OR is_newcomer)
),
-- Distinct secrets within the window: a secret counts from its first read until one window
-- after its last one, so a running sum is the number of distinct secrets.
strange_reads AS (
    SELECT
        reads.tenant_id, reads.reader, reads.secret_id, reads.event_time, reads.event_uid,
        epoch(reads.event_time) AS at_s,
        lag(epoch(reads.event_time)) OVER (
            PARTITION BY reads.tenant_id, reads.reader, reads.secret_id ORDER BY reads.event_time, reads.event_uid
        ) AS before_s,
        lead(epoch(reads.event_time)) OVER (
            PARTITION BY reads.tenant_id, reads.reader, reads.secret_id ORDER BY reads.event_time, reads.event_uid
        ) AS after_s
    FROM reads
    INNER JOIN judged
        ON reads.tenant_id = judged.tenant_id AND reads.reader = judged.reader
        AND reads.secret_id = judged.secret_id
    WHERE NOT judged.is_consumer
),
edges AS (
    SELECT tenant_id, reader, at_s, 1 AS step
    FROM strange_reads
    WHERE before_s IS NULL OR at_s - before_s > $sweep_s
    UNION ALL
    SELECT tenant_id, reader, at_s + $sweep_s AS at_s, -1 AS step
    FROM strange_reads
    WHERE after_s IS NULL OR after_s - at_s > $sweep_s
),
running AS (
    SELECT
        tenant_id, reader, at_s,
        sum(step) OVER (
            PARTITION BY tenant_id, reader ORDER BY at_s, step DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS secrets_at_once
    FROM edges
),
peaks AS (
    SELECT tenant_id, reader, CAST(max(secrets_at_once) AS BIGINT) AS secrets_at_once, max(at_s) AS at_s
    FROM (
        SELECT
            *, max(secrets_at_once) OVER (PARTITION BY tenant_id, reader) AS most
        FROM running
    ) AS tops
    WHERE secrets_at_once = most AND most >= $sweep_secrets
    GROUP BY tenant_id, reader
),
swept AS (
    SELECT
        strange_reads.tenant_id, strange_reads.reader, strange_reads.secret_id,
        strange_reads.event_time, strange_reads.event_uid, peaks.secrets_at_once,
        row_number() OVER (
            PARTITION BY strange_reads.tenant_id, strange_reads.reader
            ORDER BY strange_reads.event_time, strange_reads.event_uid
        ) AS place
    FROM strange_reads
    INNER JOIN peaks
        ON strange_reads.tenant_id = peaks.tenant_id AND strange_reads.reader = peaks.reader
    WHERE abs(strange_reads.at_s - peaks.at_s) <= $sweep_s
),
swept_secrets AS (
    SELECT DISTINCT tenant_id, reader, secret_id FROM swept
),
-- The ids under which a call may name a secret, one a row: joins stay on equality.
ids AS (
    SELECT secret.tenant_id, secret.secret_id, name.id
    FROM secrets AS secret
    INNER JOIN (
        SELECT DISTINCT tenant_id, secret_id FROM strangers
    ) AS wanted ON secret.tenant_id = wanted.tenant_id AND secret.secret_id = wanted.secret_id
    CROSS JOIN unnest([
        secret.secret_id, secret.secret_id || '/' || secret.secret_version,
        secret.secret_id || ':' || secret.secret_version
    ]) AS name(id)
    WHERE name.id IS NOT NULL
),
presented AS (
    SELECT ids.tenant_id, ids.secret_id, held.credential_key
    FROM ids
    INNER JOIN credentials AS held ON ids.tenant_id = held.tenant_id AND ids.id = held.id
    WHERE held.is_static OR held.kind IN ('api_key_id', 'access_key_id', 'secret_version', 'vault_accessor')
),
-- Who used a secret, by the store's records and by calls with the credential that it is.
uses AS (
    SELECT
        event.tenant_id, event.secret_id, event.event_time, event.event_uid,
        coalesce(named.identity_id, event.accessed_by_id) AS used_by, CAST(NULL AS VARCHAR) AS workload
    FROM secret_events AS event
    LEFT JOIN named ON event.accessed_by_id = named.name
    WHERE event.op = 'use'
    UNION ALL
    SELECT
        presented.tenant_id, presented.secret_id, call.event_time, call.event_uid,
        coalesce(named.identity_id, call.agent_id) AS used_by, call.workload_id AS workload
    FROM presented
    INNER JOIN calls AS call
        ON presented.tenant_id = call.tenant_id AND presented.credential_key = call.credential_key
    LEFT JOIN named ON call.agent_id = named.name
    WHERE call.outcome = 'success' AND call.link_confidence >= $link_confidence_min
),
first_uses AS (
    SELECT
        tenant_id, secret_id, used_by, coalesce(workload, '') AS workload, min(event_time) AS first_at,
        arg_min(event_uid, event_time) AS event_uid,
        min(CASE WHEN workload IS NOT NULL THEN min(event_time) END) OVER (
            PARTITION BY tenant_id, secret_id, used_by
        ) AS first_placed_at
    FROM uses
    GROUP BY tenant_id, secret_id, used_by, workload
),
followed AS (
    SELECT
        strangers.tenant_id, strangers.reader, strangers.secret_id,
        list_sort(list_distinct(list(first_uses.used_by))) AS used_by,
        list(first_uses.event_uid) AS event_uids, max(first_uses.first_at) AS used_at
    FROM strangers
    INNER JOIN first_uses
        ON strangers.tenant_id = first_uses.tenant_id AND strangers.secret_id = first_uses.secret_id
        AND first_uses.first_at >= strangers.first_at
        AND epoch(first_uses.first_at) - epoch(strangers.first_at) <= $followed_s
    LEFT JOIN consumers
        ON first_uses.tenant_id = consumers.tenant_id AND first_uses.secret_id = consumers.secret_id
        AND first_uses.used_by = consumers.reader
    LEFT JOIN reg_names AS own
        ON first_uses.used_by = own.identity_id AND first_uses.workload = own.name
    -- Whoever took it is taken for its holder: then only the workload gives the place away.
    WHERE consumers.reader IS NULL
        OR (first_uses.workload <> '' AND own.name IS NULL AND first_uses.first_placed_at < strangers.first_at)
    GROUP BY strangers.tenant_id, strangers.reader, strangers.secret_id
),
single AS (
    SELECT
        reads.tenant_id, reads.reader, reads.secret_id, reads.event_time, reads.event_uid,
        reads.observer, reads.environment,
        row_number() OVER (
            PARTITION BY reads.tenant_id, reads.reader, reads.secret_id ORDER BY reads.event_time, reads.event_uid
        ) AS place
    FROM reads
    INNER JOIN unexpected
        ON reads.tenant_id = unexpected.tenant_id AND reads.reader = unexpected.reader
        AND reads.secret_id = unexpected.secret_id
    LEFT JOIN swept_secrets
        ON reads.tenant_id = swept_secrets.tenant_id AND reads.reader = swept_secrets.reader
        AND reads.secret_id = swept_secrets.secret_id
    WHERE swept_secrets.secret_id IS NULL
),
found AS (
    SELECT
        'reader' AS variant, tenant_id, reader, secret_id, secret_id AS shown_secret_id,
        [secret_id] AS secrets_read, CAST(1 AS BIGINT) AS secrets_count,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM single
    GROUP BY tenant_id, reader, secret_id
    UNION ALL
    SELECT
        'sweep' AS variant, tenant_id, reader, '' AS secret_id, min(secret_id) AS shown_secret_id,
        list_sort(list_distinct(list(secret_id)))[1:$evidence_max] AS secrets_read,
        max(secrets_at_once) AS secrets_count,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM swept
    GROUP BY tenant_id, reader
),
consequences AS (
    SELECT
        found.tenant_id, found.variant, found.reader, found.secret_id,
        list_sort(list_distinct(flatten(list(followed.used_by)))) AS used_by,
        flatten(list(followed.event_uids))[1:$evidence_max] AS event_uids,
        max(followed.used_at) AS used_at
    FROM found
    CROSS JOIN unnest(found.secrets_read) AS item(secret_id)
    INNER JOIN followed
        ON found.tenant_id = followed.tenant_id AND found.reader = followed.reader
        AND item.secret_id = followed.secret_id
    GROUP BY found.tenant_id, found.variant, found.reader, found.secret_id
)
SELECT
    found.tenant_id,
    found.variant,
    found.reader,
    found.secret_id,
    found.reader AS entity,
    found.reader || CASE
        WHEN found.variant = 'sweep'
            THEN ' read ' || CAST(found.secrets_count AS VARCHAR) || ' different secrets within minutes'
        ELSE ' read ' || found.secret_id || ', which it does not consume'
    END || CASE WHEN after.used_at IS NOT NULL THEN '; it was then used from a new place' ELSE '' END AS title,
    CASE WHEN after.used_at IS NOT NULL THEN 4 ELSE 3 END AS severity,
    judged.identity_id,
    CASE WHEN found.variant = 'reader' AND judged.expected IS NULL THEN 0.8 ELSE 1.0 END AS confidence,
    registered.vendor_hosted,
    coalesce(seen_by.observer, 'agent_runtime') AS observer,
    secret.environment,
    secret.secret_kind,
    secret.bound_identity_id,
    judged.expected,
    found.secrets_read,
    found.secrets_count,
    after.used_by AS then_used_by,
    found.first_seen,
    greatest(found.last_seen, coalesce(after.used_at, found.last_seen)) AS last_seen,
    list_sort(list_distinct(list_concat(
        found.event_uids, coalesce(after.event_uids, CAST([] AS VARCHAR[]))
    ))) AS event_uids
FROM found
INNER JOIN judged
    ON found.tenant_id = judged.tenant_id AND found.reader = judged.reader
    AND found.shown_secret_id = judged.secret_id
LEFT JOIN seen_by ON found.tenant_id = seen_by.tenant_id AND found.reader = seen_by.reader
LEFT JOIN reg_identities AS registered ON judged.identity_id = registered.identity_id
LEFT JOIN secrets AS secret
    ON found.tenant_id = secret.tenant_id AND found.shown_secret_id = secret.secret_id
LEFT JOIN consequences AS after
    ON found.tenant_id = after.tenant_id AND found.variant = after.variant
    AND found.reader = after.reader AND found.secret_id = after.secret_id
