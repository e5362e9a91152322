-- A path with the actors of one more credential behind it.
CREATE OR REPLACE TEMP MACRO extend_path(path, act_chain, acting) AS list_concat(
    path,
    asserted_after(path, earlier_actors(act_chain)),
    CASE WHEN acting IS NULL OR acting = path[len(path)] THEN []::VARCHAR[] ELSE [acting] END)
