-- Each candidate parent with its place and, where it is not canonical, the reason.
CREATE OR REPLACE TEMP TABLE parent_choice AS
WITH judged AS (
    SELECT
        vote.*, child.tenant_id, child.made_at AS hop_time, parent.made_at AS parent_made_at,
        child.acting AS delegate, parent.acting AS delegator,
        CASE
            WHEN vote.role = 'actor' THEN 'actor_limits'
            WHEN child.is_interactive AND child.issue_op = 'issue'
                AND (child.consent_id IS NOT NULL
                    OR child.made_at - child.auth_time <= INTERVAL 10 MINUTE)
                THEN 'superseded_by_consent'
            WHEN vote.confidence < 0.60 THEN 'below_canonical'
            WHEN vote.evidence_class = 'inferred'
                AND parent.made_at > child.made_at + INTERVAL 120 SECOND THEN 'contradicts_dates'
            WHEN vote.rivals > 1 AND NOT by_act THEN 'not_unique'
        END AS refused
    FROM parent_votes AS vote
    JOIN cred AS child ON child.credential_key = vote.child_key
    JOIN cred AS parent ON parent.credential_key = vote.parent_key
    WHERE vote.child_key <> vote.parent_key
),
placed AS (
    SELECT *, row_number() OVER (
        PARTITION BY child_key
        ORDER BY refused IS NOT NULL, role_rank(role), confidence DESC, parent_made_at DESC, parent_key
    ) AS place
    FROM judged
)
SELECT
    placed.*,
    first_value(parent_key) OVER by_place AS best_parent,
    first_value(confidence) OVER by_place AS best_confidence,
    first_value(role_rank(role)) OVER by_place AS best_role,
    first_value(evidence_class) OVER by_place AS best_class
FROM placed
WINDOW by_place AS (PARTITION BY child_key ORDER BY place)
