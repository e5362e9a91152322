-- Entries of no known event, without a time or a node; and a break at one that would be skipped.
SELECT part, reason
FROM (
    SELECT
        part,
        CASE
            WHEN r.event IS NULL OR r.event NOT IN ('root', 'spawn', 'spawn_denied', 'allow', 'deny', 'kill', 'done', 'outcome')
                THEN 'event is none that we know'
            WHEN $received_at IS NULL AND moment_of(r.time) IS NULL
                AND (r.ts IS NULL OR moment_of(r.ts) IS NULL OR regexp_full_match(r.ts, '[0-9]{1,9}([.]0*)?'))
                THEN 'ts is a count or no time, and nothing says when the entry was received'
            WHEN plain_of(r.node) IS NULL AND r.event IN ('root', 'spawn', 'allow', 'deny', 'outcome') THEN 'node is missing'
            WHEN chain_verdict = 'broken' AND chain_verdict_reason <> 'it follows a broken record'
                AND (r.event = 'done' OR (r.event = 'kill' AND coalesce(len(r.revoked), 0) = 0))
                THEN 'the hash chain breaks at an entry that gives no row: ' || chain_verdict_reason
        END AS reason
    FROM records
) AS judged
WHERE reason IS NOT NULL
