-- The credential of each call, over all its observations; below 0.60, or where more than one
-- fits, it stays a candidate.
CREATE OR REPLACE TEMP TABLE call_choice AS
WITH votes AS (
    SELECT keyed_obs.call_key, candidate.credential_key, method, max(confidence) AS confidence,
        min(rivals) AS rivals,
        arg_max(candidate.evidence_class, evidence_class_rank(candidate.evidence_class)) AS evidence_class,
        CASE WHEN method IN ('T4', 'T5', 'T7') THEN 'correlation' WHEN method IN ('T6', 'T8') THEN 'agent'
            ELSE method END AS vote
    FROM call_candidates AS candidate
    JOIN keyed_obs USING (event_uid)
    GROUP BY keyed_obs.call_key, candidate.credential_key, method
),
usable AS (
    -- Methods that ask for exactly one token say nothing where there are more.
    SELECT *, CASE WHEN rivals > 1 THEN least(confidence, 0.45) ELSE confidence END AS weight FROM votes
),
by_vote AS (
    SELECT call_key, credential_key, vote, max(weight) AS confidence, arg_max(method, (weight, method)) AS method,
        arg_max(evidence_class, (weight, evidence_class)) AS evidence_class
    FROM usable
    GROUP BY call_key, credential_key, vote
),
combined AS (
    SELECT call_key, credential_key,
        arg_max(method, (confidence, method)) AS method,
        arg_max(evidence_class, (confidence, evidence_class)) AS evidence_class,
        CASE WHEN max(confidence) >= 0.90 THEN max(confidence)
            WHEN max(confidence) < 0.60 THEN max(confidence)
            ELSE least(0.95, round(1 - product(1 - confidence), 6)) END AS confidence
    FROM by_vote
    GROUP BY call_key, credential_key
)
SELECT *, row_number() OVER (PARTITION BY call_key ORDER BY confidence DESC, credential_key) AS place
FROM combined
