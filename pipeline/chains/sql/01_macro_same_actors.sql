-- May these be the actors of one token?  A record that tells none agrees with any, and one that
-- was cut with all that begin like it; issuers are not compared, for not every record has them.
CREATE OR REPLACE TEMP MACRO same_actors(actors_a, cut_a, actors_b, cut_b) AS
    len(actors_a) = 0
    OR (cut_a AND list_transform(actors_b[1:len(actors_a)], lambda one: one.subject) = list_transform(actors_a, lambda one: one.subject))
    OR (cut_b AND list_transform(actors_a[1:len(actors_b)], lambda one: one.subject) = list_transform(actors_b, lambda one: one.subject))
    OR list_transform(actors_a, lambda one: one.subject) = list_transform(actors_b, lambda one: one.subject)
