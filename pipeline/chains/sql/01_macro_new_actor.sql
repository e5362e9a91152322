-- Who comes to a path with a credential.  One that names no actor stands in its subject's name:
-- that subject does not come back in its own chain.
CREATE OR REPLACE TEMP MACRO new_actor(path, acting, actor_unknown) AS
    CASE WHEN actor_unknown AND list_contains(path, acting) THEN NULL ELSE acting END
