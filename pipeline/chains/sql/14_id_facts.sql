-- What is said of an id under its own name: a union may not contradict it.
CREATE OR REPLACE TEMP TABLE id_facts AS
SELECT
    own_id_key AS id_key,
    min(subject_identity) FILTER (is_issue) AS subject_low, max(subject_identity) FILTER (is_issue) AS subject_high,
    min(issued_at) AS issued_low, max(issued_at) AS issued_high,
    min(expires_at) AS expires_low, max(expires_at) AS expires_high
FROM tok
WHERE own_id_key IS NOT NULL AND outcome = 'success'
GROUP BY own_id_key
