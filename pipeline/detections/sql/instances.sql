-- Names in events that are those of a registered identity's instances: `planner/run-7`,
-- `planner#7` and `spiffe://acme/planner/pod-2` begin with a name of it, or an alias that ends in
-- * stands for them.  The longest name that fits says whose it is.  People are nobody's instance.
WITH seen AS (
    SELECT agent_id AS name FROM tool_calls
    UNION
    SELECT actor_id AS name FROM tool_calls
    UNION
    SELECT workload_id AS name FROM tool_calls
    UNION
    SELECT actor_id AS name FROM token_events
    UNION
    SELECT client_id AS name FROM token_events
    UNION
    SELECT accessed_by_id AS name FROM secret_events
    UNION
    SELECT bound_identity_id AS name FROM secret_events
),
people AS (
    SELECT principal AS name FROM reg_people
    UNION
    SELECT subject_id AS name FROM tool_calls WHERE subject_kind = 'human'
    UNION
    SELECT subject_id AS name FROM token_events WHERE subject_kind = 'human'
),
strange AS (
    SELECT seen.name
    FROM seen
    ANTI JOIN reg_names ON seen.name = reg_names.name
    ANTI JOIN people ON seen.name = people.name
    WHERE length(seen.name) BETWEEN 2 AND 500
),
borne AS (
    SELECT strange.name, whole.identity_id, whole.issuer, length(whole.name) AS length
    FROM strange
    CROSS JOIN unnest(list_filter(
        generate_series(1, length(strange.name) - 1),
        lambda i: list_contains(['/', '#', ':', '~'], substr(strange.name, CAST(i + 1 AS INTEGER), 1))
    )) AS cut(length)
    JOIN reg_names AS whole ON left(strange.name, CAST(cut.length AS INTEGER)) = whole.name
    UNION ALL
    SELECT strange.name, pattern.identity_id, pattern.issuer, length(pattern.name) - 1 AS length
    FROM strange
    JOIN reg_names AS pattern ON ends_with(pattern.name, '*') AND length(pattern.name) > 1
        AND starts_with(strange.name, left(pattern.name, length(pattern.name) - 1))
)
SELECT DISTINCT identity_id, issuer, name
FROM borne
QUALIFY length = max(length) OVER (PARTITION BY name)
ORDER BY identity_id, issuer, name
