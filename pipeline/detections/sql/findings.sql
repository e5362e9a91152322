-- What one run of a rule found: one row per finding, its severity worked out.
--
-- `rule_rows` are the rule's rows inside the window; rows that share an identity
-- become one finding with the evidence of all.
WITH evidence AS (
    SELECT
        finding_id,
        min(first_seen) AS first_seen,
        max(last_seen) AS last_seen,
        list_sort(list_distinct(flatten(list(event_uids)))) AS event_uids
    FROM rule_rows
    GROUP BY finding_id
),
foremost AS (
    SELECT * EXCLUDE (first_seen, last_seen, event_uids)
    FROM rule_rows
    QUALIFY row_number() OVER (
        PARTITION BY finding_id
        ORDER BY coalesce(severity, $base) + coalesce(severity_delta, 0) DESC,
            coalesce(confidence, chain_confidence, 1.0) DESC, entity, title, summary
    ) = 1
),
wanted AS (
    SELECT DISTINCT tenant_id, credential_key FROM rule_rows WHERE credential_key IS NOT NULL
),
behind AS (
    SELECT chains.tenant_id, chains.credential_key, chains.actor_path, chains.confidence
    FROM chains
    SEMI JOIN wanted USING (tenant_id, credential_key)
),
issued AS (
    SELECT credentials.tenant_id, credentials.credential_key, credentials.observer
    FROM credentials
    SEMI JOIN wanted USING (tenant_id, credential_key)
),
joined AS (
    SELECT
        foremost.*,
        evidence.first_seen,
        evidence.last_seen,
        coalesce(evidence.event_uids, []) AS event_uids,
        behind.actor_path AS chain_path,
        coalesce(foremost.confidence, foremost.chain_confidence, behind.confidence, 1.0) AS sure,
        coalesce(foremost.observer, issued.observer) AS seen_by
    FROM foremost
    JOIN evidence USING (finding_id)
    LEFT JOIN behind
        ON behind.tenant_id = foremost.tenant_id AND behind.credential_key = foremost.credential_key
    LEFT JOIN issued
        ON issued.tenant_id = foremost.tenant_id AND issued.credential_key = foremost.credential_key
),
weighed AS (
    SELECT
        *,
        greatest(1, least(5,
            coalesce(severity, $base)
            + coalesce(severity_delta, 0)
            + CASE WHEN action_class IN (
                    'admin_iam', 'delete', 'payment', 'secret_read', 'execute'
                ) OR resource_sensitivity >= 3 OR irreversible THEN 1 ELSE 0 END
            + CASE WHEN vendor_hosted OR cross_domain THEN 1 ELSE 0 END
            - CASE WHEN environment IN ('stage', 'dev', 'test') AND NOT $credential_theft
                THEN 1 ELSE 0 END
            - CASE WHEN chain_confidence < 0.6 THEN 2
                WHEN chain_confidence < 0.8 THEN 1 ELSE 0 END
            - CASE WHEN possible THEN 1 ELSE 0 END
        )) AS weight
    FROM joined
)
SELECT
    finding_id,
    -- Critical is for what is nearly certain and was not only claimed by the agent itself.
    CAST(CASE
        WHEN weight = 5 AND (sure < 0.95 OR coalesce(seen_by, 'agent_runtime') = 'agent_runtime')
            THEN 4
        ELSE weight
    END AS INTEGER) AS severity,
    sure AS confidence,
    tenant_id,
    -- Event text is hostile: no control or direction characters reach a reader's screen.
    left(
        CASE WHEN possible THEN 'Possible: ' ELSE '' END || regexp_replace(
            regexp_replace(coalesce(title, $title), '\p{Cc}+', ' ', 'g'), '\p{Cf}', '', 'g'
        ),
        500
    ) AS title,
    coalesce(entity, 'unknown') AS entity,
    first_seen,
    last_seen,
    event_uids[1:500] AS event_uids,
    chain_path,
    credential_key,
    identity,
    summary,
    coverage_note,
    identity_id
FROM weighed
ORDER BY finding_id
