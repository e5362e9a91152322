-- Principals of a top, root first: the subject, its recorded actors oldest first, who acts.
CREATE OR REPLACE TEMP MACRO path_of(subject_id, act_chain, acting) AS extend_path(
    CASE WHEN subject_id IS NULL THEN []::VARCHAR[] ELSE [subject_id] END, act_chain, acting)
