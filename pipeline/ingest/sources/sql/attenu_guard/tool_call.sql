-- Checks of one scope each, and what became of the call where that was watched.
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
        END AS time_basis
    FROM records
),
-- An entry that was changed or put in names nobody's agent, and a chain's nodes and calls are its own.
holders AS (
    SELECT ledger, r.chain_id AS chain, r.node AS node, min(plain_of(r.agent)) AS agent, min(plain_of(r.parent)) AS parent
    FROM entries
    WHERE r.event IN ('root', 'spawn') AND chain_verdict <> 'broken'
    GROUP BY ledger, r.chain_id, r.node
),
checks AS (
    SELECT ledger, r.chain_id AS chain, r.call_id AS call_id, min(coalesce(plain_of(r.tool), plain_of(r.scope))) AS tool, min(plain_of(r.scope)) AS scope
    FROM entries
    WHERE r.event = 'allow' AND r.call_id IS NOT NULL AND chain_verdict <> 'broken'
    GROUP BY ledger, r.chain_id, r.call_id
)
SELECT
    entries.part,
    sha256 AS uid_of,
    chain_verdict = 'broken' OR holders.agent IS NULL OR (r.event = 'outcome' AND checks.tool IS NULL) AS is_partial,
    coalesce(plain_of(r.hash), sha256) AS event_id,
    entries.ledger AS source,
    told_at AS event_time,
    'agent_runtime' AS observer,
    $tenant_id AS tenant_id,
    plain_of(r.chain_id) AS session_id,
    coalesce(plain_of(r.tool), plain_of(r.scope), checks.tool, 'unknown') AS tool_name,
    coalesce(plain_of(r.scope), checks.scope) AS operation,
    CASE WHEN r.scope IS NOT NULL AND r.policy IS NULL THEN [plain_of(r.scope)] ELSE [] END AS required_scopes,
    CASE
        WHEN r.event = 'deny' THEN 'denied'
        WHEN r.body_state = 'returned' THEN 'success'
        WHEN r.body_state = 'raised' THEN 'failure'
        ELSE 'unknown'
    END AS outcome,
    CASE
        WHEN r.event = 'deny' THEN 'deny'
        WHEN r.event = 'allow' AND r.policy IS NULL THEN 'allow'
        WHEN r.event = 'allow' THEN 'none'
    END AS decision_effect,
    plain_of(r.call_id) AS call_id,
    CASE
        WHEN r.event = 'outcome' THEN 'post'
        WHEN r.event = 'allow' AND r.capture IS NOT NULL AND r.capture <> 'pre_hook_only' THEN 'pre'
        ELSE 'single'
    END AS phase,
    -- Whose node it is may stand in another batch; a node is nobody's name.
    coalesce(holders.agent, 'unknown') AS agent_id,
    plain_of(r.node) AS agent_instance,
    above.agent AS parent_agent_id,
    holders.agent AS actor_id,
    'none' AS actor_convention,
    entries.ledger AS credential_issuer,
    'local' AS credential_kind,
    plain_of(r.node) AS credential_id,
    coalesce(plain_of(r.authorized_params_hash), plain_of(r.invoked_params_hash), context_hash) AS args_hash,
    ext_of(
        ['seq', 'prev_hash', 'hash', 'chain_verdict', 'chain_verdict_reason', 'time_basis', 'reason', 'disposition',
            'policy', 'capture', 'adapter', 'body_state', 'error_code', 'duration_ms', 'params_hash_reason', 'rows', 'spend'],
        list_transform([CAST(r.seq AS VARCHAR), r.prev_hash, r.hash, chain_verdict, chain_verdict_reason,
            time_basis,
            r.reason, r.disposition, r.policy, r.capture, concat_ws(' ', plain_of(r.adapter.module), plain_of(r.adapter.version)),
            r.body_state, CASE WHEN regexp_full_match(r.error_code, '[A-Za-z0-9_.:-]{1,100}') THEN r.error_code END,
            CAST(r.duration_ms AS VARCHAR), r.params_hash_reason, CAST(r.context.rows AS VARCHAR), CAST(r.context.spend AS VARCHAR)],
            lambda one: plain_of(one))
    ) AS ext
FROM entries
LEFT JOIN holders ON entries.ledger = holders.ledger AND r.chain_id IS NOT DISTINCT FROM holders.chain AND r.node = holders.node
LEFT JOIN holders AS above ON entries.ledger = above.ledger AND holders.chain IS NOT DISTINCT FROM above.chain AND holders.parent = above.node
LEFT JOIN checks ON entries.ledger = checks.ledger AND r.chain_id IS NOT DISTINCT FROM checks.chain AND r.call_id = checks.call_id
WHERE r.event IN ('allow', 'deny', 'outcome') AND told_at IS NOT NULL AND plain_of(r.node) IS NOT NULL
