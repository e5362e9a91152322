-- The root of a chain, its delegations, those that were refused, and each node that a kill revoked.
WITH entries AS (
    SELECT
        *,
        concat_ws(':', 'attenu_guard', coalesce(plain_of(r.boot_id), $instance)) AS ledger,
        -- A count of entries is no time.
        CASE WHEN NOT regexp_full_match(r.ts, '[0-9]{1,9}([.]0*)?') THEN moment_of(r.ts) END AS own_time,
        moment_of(r.time) AS spool_time,
        coalesce(
            own_time, spool_time,
            -- A number that no ledger reaches moves no time.
            CAST($received_at AS TIMESTAMPTZ) + to_microseconds(CASE WHEN r.seq BETWEEN 0 AND 1000000000000 THEN r.seq ELSE 0 END)
        ) AS told_at,
        CASE
            WHEN own_time IS NOT NULL THEN 'ts'
            WHEN spool_time IS NOT NULL THEN 'spool'
            ELSE 'received'
        END AS time_basis,
        CASE WHEN r.event = 'root' THEN r.authority ELSE r.granted END AS held
    FROM records
),
told AS (
    SELECT *, r.node AS holder FROM entries WHERE r.event IN ('root', 'spawn', 'spawn_denied')
    UNION ALL
    SELECT *, unnest(list_distinct(r.revoked)) AS holder FROM entries WHERE r.event = 'kill'
),
-- An entry that was changed or put in names nobody's agent, and a chain's nodes are its own.
holders AS (
    SELECT ledger, r.chain_id AS chain, r.node AS node, min(plain_of(r.agent)) AS agent
    FROM entries
    WHERE r.event IN ('root', 'spawn') AND chain_verdict <> 'broken'
    GROUP BY ledger, r.chain_id, r.node
)
SELECT
    told.part,
    sha256 AS uid_of,
    chain_verdict = 'broken' AS is_partial,
    coalesce(plain_of(r.hash), sha256) || CASE WHEN r.event = 'kill' THEN '/' || holder ELSE '' END AS event_id,
    told.ledger AS source,
    told_at AS event_time,
    'agent_runtime' AS observer,
    $tenant_id AS tenant_id,
    plain_of(r.chain_id) AS session_id,
    CASE r.event WHEN 'root' THEN 'issue' WHEN 'spawn' THEN 'delegate' WHEN 'kill' THEN 'revoke' ELSE 'deny' END AS op,
    CASE WHEN r.event = 'spawn_denied' THEN 'failure' ELSE 'success' END AS outcome,
    CASE WHEN r.event = 'spawn_denied' THEN plain_of(r.reason) END AS error,
    CASE WHEN r.event <> 'spawn_denied' THEN told.ledger END AS credential_issuer,
    CASE WHEN r.event <> 'spawn_denied' THEN 'local' END AS credential_kind,
    CASE WHEN r.event <> 'spawn_denied' THEN plain_of(holder) END AS credential_id,
    'attenu_authority' AS token_type,
    -- As far as a ledger says, its first agent stands for itself.
    CASE WHEN r.event = 'root' THEN plain_of(r.agent) END AS client_id,
    CASE WHEN r.event = 'root' THEN 'agent' END AS subject_kind,
    CASE WHEN r.event = 'kill' THEN holders.agent ELSE plain_of(r.agent) END AS actor_id,
    'none' AS actor_convention,
    held.scopes AS scopes,
    held.scopes IS NOT NULL AS scope_known,
    -- A grant of nothing is no answer that leaves out what was asked for.
    CASE WHEN r.event = 'spawn' AND len(held.scopes) > 0 THEN r.requested.scopes END AS requested_scopes,
    CASE WHEN r.event IN ('root', 'spawn') THEN 'dot' END AS scope_dialect,
    CASE WHEN r.event IN ('root', 'spawn') THEN told_at END AS issued_at,
    CASE WHEN held.ttl BETWEEN 0 AND 1e9 THEN TRY(told_at + to_microseconds(CAST(held.ttl * 1e6 AS BIGINT))) END AS expires_at,
    CASE
        WHEN r.event IN ('spawn', 'spawn_denied') AND plain_of(r.parent) IS NOT NULL
            THEN [{'role': 'delegation', 'issuer': told.ledger, 'kind': 'local', 'id': plain_of(r.parent)}]
        ELSE []
    END AS parents,
    CASE WHEN r.event = 'kill' THEN 'token' END AS revoke_target,
    CASE WHEN r.event = 'kill' THEN coalesce(plain_of(r.reason), CASE WHEN r.agent IS NOT NULL THEN 'agent_banned' END) END AS revoke_reason,
    ext_of(
        ['seq', 'prev_hash', 'hash', 'chain_verdict', 'chain_verdict_reason', 'time_basis', 'ttl', 'constraints', 'target',
            'agent', 'strikes', 'mode', 'refused_scopes'],
        list_transform([CAST(r.seq AS VARCHAR), r.prev_hash, r.hash, chain_verdict, chain_verdict_reason,
            time_basis,
            CAST(held.ttl AS VARCHAR),
            array_to_string(list_transform(held.constraints, lambda one: concat_ws('<=', plain_of(one.key), CAST(one.max AS VARCHAR))), ' '),
            r.target, CASE WHEN r.event = 'kill' THEN r.agent END, CAST(r.strikes AS VARCHAR), r.mode,
            CASE WHEN len(held.scopes) = 0 THEN array_to_string(r.requested.scopes, ' ') END],
            lambda one: plain_of(one))
    ) AS ext
FROM told
LEFT JOIN holders ON told.ledger = holders.ledger AND r.chain_id IS NOT DISTINCT FROM holders.chain AND told.holder = holders.node
WHERE told_at IS NOT NULL AND (r.event = 'spawn_denied' OR plain_of(holder) IS NOT NULL)
