-- Names that hold something.
SELECT
    (SELECT count(DISTINCT coalesce(actor_id, client_id, subject_id)) FROM credentials)
    + (SELECT count(DISTINCT bound_identity_id) FROM secrets) AS examined
