-- A path with the actors of one more credential behind it.  Act chains arrive outermost first.
CREATE OR REPLACE TEMP MACRO extend_path(path, act_chain, acting) AS list_concat(
    path,
    list_filter(list_reverse(list_transform(act_chain[2:], lambda hop: hop.subject)),
        lambda name: name IS NOT NULL AND NOT list_contains(path, name)),
    CASE WHEN acting IS NULL OR acting = path[len(path)] THEN []::VARCHAR[] ELSE [acting] END)
