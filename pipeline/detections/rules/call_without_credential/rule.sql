-- A call that needs a credential cannot be tied to any.
--
-- One row per call; one per source where none of its calls names a credential, which is an
-- adapter that does not log them and not a hundred attackers, from the first call on where its
-- format has no place for one; one per agent that does it all the time.  A denied call needed
-- none, nor did an ambient tool; and what the agent's own record leaves out, that of the point
-- that enforced the call may name.
WITH bare AS (
    SELECT
        call.tenant_id, call.call_key, call.call_id, call.source, call.event_uid, call.event_time, call.agent_id,
        call.agent_issuer,
        call.tool_name, call.tool_server, call.tool_protocol, call.resource, call.outcome,
        call.action_class, call.resource_sensitivity, call.environment, call.observer, call.adapter,
        call.subject_id, call.trace_id, call.txn_id, call.session_id, call.link_method,
        call.link_confidence
    FROM calls AS call
    INNER JOIN rule_watermarks AS until ON call.tenant_id = until.tenant_id
    WHERE call.event_time < until.watermark
        AND coalesce(call.link_confidence, 0) < $link_confidence_min
        AND call.credential_id IS NULL
        AND call.outcome <> 'denied'
        AND (
            call.tool_protocol IN ('mcp_http', 'a2a', 'http', 'cloud_api', 'k8s', 'db')
            -- An unnamed protocol counts where the call shows that somebody had to be allowed.
            OR (
                coalesce(call.tool_protocol, 'unknown') = 'unknown'
                AND (
                    call.tool_server IS NOT NULL OR array_length(call.required_scopes) > 0
                    OR coalesce(call.decision_effect, 'none') = 'allow'
                )
            )
        )
        -- Getting the first credential takes none, a cloud's own service has no key of ours, and
        -- of another account's caller AWS tells the other account alone which key it was.
        AND NOT list_contains($login_tools, call.tool_name)
        AND NOT list_contains($login_servers, coalesce(call.tool_server, ''))
        AND NOT list_contains($open_tools, call.tool_name)
        AND NOT ends_with(call.agent_id, '.amazonaws.com')
        AND call.agent_id <> 'AWS Internal'
        AND coalesce(call.ext['identityType'], '') <> 'AWSAccount'
),
-- Two records of one call that no trace ties: another source's, of the same id, tool and time.
named_elsewhere AS (
    SELECT DISTINCT bare.tenant_id, bare.event_uid
    FROM bare
    INNER JOIN tool_calls AS other
        ON bare.tenant_id = other.tenant_id AND bare.call_id = other.call_id
        AND bare.tool_name = other.tool_name AND bare.source <> other.source
    WHERE other.credential_id IS NOT NULL
        AND abs(epoch(bare.event_time) - epoch(other.event_time)) <= $same_call_s
        -- What an agent says of itself excuses nothing that was enforced.
        AND (bare.observer = 'agent_runtime' OR other.observer <> 'agent_runtime')
        -- A counter says something only of one agent.
        AND (bare.agent_id = other.agent_id OR NOT regexp_matches(bare.call_id, '^[0-9]*$'))
),
ambient AS (
    SELECT DISTINCT bare.tenant_id, bare.event_uid
    FROM bare
    INNER JOIN reg_names AS named
        ON bare.agent_id = named.name
        AND (named.issuer IS NULL OR bare.agent_issuer IS NULL OR named.issuer = bare.agent_issuer)
    INNER JOIN reg_identities_as_of AS period
        ON named.identity_id = period.identity_id
        AND bare.event_time >= period.valid_from AND bare.event_time < period.valid_to
    WHERE list_contains(period.ambient_tools, bare.tool_name)
        OR list_contains(period.ambient_tools, bare.tool_server)
),
unlinked AS (
    SELECT bare.*
    FROM bare
    LEFT JOIN named_elsewhere
        ON bare.tenant_id = named_elsewhere.tenant_id AND bare.event_uid = named_elsewhere.event_uid
    LEFT JOIN ambient ON bare.tenant_id = ambient.tenant_id AND bare.event_uid = ambient.event_uid
    WHERE named_elsewhere.event_uid IS NULL AND ambient.event_uid IS NULL
),
habits AS (
    SELECT
        call.tenant_id, call.source, count(*) AS calls, count(call.credential_id) AS with_credential_id,
        bool_or(list_contains($silent_adapters, call.adapter)) AS is_silent
    FROM tool_calls AS call
    INNER JOIN (SELECT DISTINCT tenant_id, source FROM unlinked) AS concerned
        ON call.tenant_id = concerned.tenant_id AND call.source = concerned.source
    GROUP BY call.tenant_id, call.source
),
counted AS (
    SELECT
        unlinked.*, habits.calls,
        habits.is_silent OR (habits.with_credential_id = 0 AND habits.calls >= $coverage_calls_min)
            AS is_habit_of_source,
        count(*) OVER (PARTITION BY unlinked.tenant_id, unlinked.source, unlinked.agent_id) AS calls_of_agent
    FROM unlinked
    INNER JOIN habits
        ON unlinked.tenant_id = habits.tenant_id AND unlinked.source = habits.source
),
placed AS (
    SELECT
        *,
        CASE WHEN is_habit_of_source THEN 'source' WHEN calls_of_agent > $agent_calls_max THEN 'agent'
            ELSE 'call' END AS missing_at,
        CASE WHEN is_habit_of_source THEN source ELSE agent_id END AS about,
        row_number() OVER (
            PARTITION BY tenant_id, source, CASE WHEN is_habit_of_source THEN '' ELSE agent_id END
            ORDER BY event_time, event_uid
        ) AS place
    FROM counted
)
SELECT
    placed.tenant_id,
    placed.missing_at,
    placed.call_key AS missing_key,
    placed.agent_id AS entity,
    placed.agent_id || ' called ' || placed.tool_name || ' with no credential that we can see' AS title,
    3 AS severity,
    placed.action_class,
    placed.resource_sensitivity,
    placed.environment,
    placed.observer,
    placed.source,
    placed.adapter,
    placed.tool_name,
    placed.tool_server,
    placed.tool_protocol,
    placed.resource,
    placed.outcome,
    placed.subject_id,
    placed.link_method AS best_method,
    placed.link_confidence AS best_confidence,
    CAST(1 AS BIGINT) AS unlinked_calls,
    CAST(NULL AS VARCHAR) AS coverage_note,
    placed.event_time AS first_seen,
    placed.event_time AS last_seen,
    [placed.event_uid] AS event_uids
FROM placed
WHERE placed.missing_at = 'call'
UNION ALL
SELECT
    placed.tenant_id,
    placed.missing_at,
    CASE WHEN placed.missing_at = 'source' THEN placed.source ELSE placed.source || ' ' || placed.about END
        AS missing_key,
    placed.about AS entity,
    CASE WHEN placed.missing_at = 'source'
        THEN 'The source ' || placed.source || ' never says which credential a call presented'
        ELSE placed.about || ' called ' || CAST(count(*) AS VARCHAR) || ' times with no credential that we can see'
    END AS title,
    CASE WHEN placed.missing_at = 'source' THEN $coverage_severity ELSE 3 END AS severity,
    max(placed.action_class) FILTER (
        WHERE placed.missing_at = 'agent'
            AND placed.action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
    ) AS action_class,
    max(placed.resource_sensitivity) FILTER (WHERE placed.missing_at = 'agent') AS resource_sensitivity,
    max(placed.environment) FILTER (WHERE placed.missing_at = 'agent') AS environment,
    min(placed.observer) AS observer,
    placed.source,
    min(placed.adapter) AS adapter,
    CAST(NULL AS VARCHAR) AS tool_name,
    CAST(NULL AS VARCHAR) AS tool_server,
    CAST(NULL AS VARCHAR) AS tool_protocol,
    CAST(NULL AS VARCHAR) AS resource,
    CAST(NULL AS VARCHAR) AS outcome,
    CAST(NULL AS VARCHAR) AS subject_id,
    CAST(NULL AS VARCHAR) AS best_method,
    max(placed.link_confidence) AS best_confidence,
    count(*) AS unlinked_calls,
    CAST(count(*) AS VARCHAR) || ' of ' || CAST(max(placed.calls) AS VARCHAR)
        || ' calls that this source reports cannot be tied to a credential' AS coverage_note,
    min(placed.event_time) AS first_seen,
    max(placed.event_time) AS last_seen,
    list_sort(list(placed.event_uid) FILTER (WHERE placed.place <= $evidence_max)) AS event_uids
FROM placed
WHERE placed.missing_at IN ('source', 'agent')
GROUP BY placed.tenant_id, placed.missing_at, placed.source, placed.about
