-- Hops at which the actor changed.
SELECT count(*) AS examined FROM hops WHERE actor_changed
