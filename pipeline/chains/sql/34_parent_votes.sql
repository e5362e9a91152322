-- One row per child, parent and role: what speaks for it.  Agreement of independent methods
-- raises; trace, session and transaction come from one producer and count once.  The cap of
-- 0.95 falls where the issuer itself names the parent.
CREATE OR REPLACE TEMP TABLE parent_votes AS
WITH votes AS (
    SELECT child_key, parent_key, role, method, confidence, evidence_class, event_uid, 1 AS rivals
    FROM explicit_parents
    UNION ALL
    SELECT child_key, parent_key, NULL, method, confidence, 'inferred', NULL, rivals
    FROM inferred_parents
),
by_method AS (
    SELECT child_key, parent_key, role, method, max(confidence) AS confidence,
        arg_max(evidence_class, evidence_class_rank(evidence_class)) AS evidence_class,
        list(event_uid ORDER BY event_uid) FILTER (event_uid IS NOT NULL) AS event_uids,
        max(rivals) AS rivals,
        CASE WHEN method IN ('P7', 'P9', 'P10') THEN 'correlation' ELSE method END AS vote
    FROM votes
    -- P7 asks for exactly one earlier credential.
    GROUP BY child_key, parent_key, role, method
),
by_vote AS (
    SELECT child_key, parent_key, role, vote, max(confidence) AS confidence,
        arg_max(method, confidence) AS method, list(method ORDER BY method) AS methods,
        arg_max(evidence_class, evidence_class_rank(evidence_class)) AS evidence_class,
        flatten(list(coalesce(event_uids, []))) AS event_uids, min(rivals) AS rivals
    FROM by_method
    GROUP BY child_key, parent_key, role, vote
)
SELECT
    child_key, parent_key, role,
    arg_max(method, (confidence, method)) AS method,
    list_sort(flatten(list(methods))) AS methods,
    CASE
        WHEN bool_or(evidence_class IN ('cryptographic', 'issuer_asserted')) THEN max(confidence)
        ELSE greatest(max(confidence),
            -- Rounded: the order of the factors must not show in the last digit.
            least(0.95, round(1 - product(1 - confidence), 6)))
    END AS confidence,
    arg_max(evidence_class, evidence_class_rank(evidence_class)) AS evidence_class,
    list_sort(list_distinct(flatten(list(event_uids)))) AS event_uids,
    -- Alone in its field by at least one of the methods that speak for it.
    min(rivals) AS rivals,
    list_contains(list(vote), 'P6') AS by_act
FROM by_vote
GROUP BY child_key, parent_key, role
