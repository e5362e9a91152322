WITH told AS (
    SELECT
        *,
        coalesce(r.class_uid, r.type_uid // 100) AS class_uid,
        coalesce(plain_of(r.ai_agent.uid), plain_of(r.ai_agent.name), plain_of(r.ai_operation.ai_agent.uid), plain_of(r.ai_operation.ai_agent.name),
            plain_of(r.actor.app_uid), plain_of(r.actor.app_name), plain_of(r.actor.invoked_by), plain_of(r.actor.user.uid), plain_of(r.actor.user.name),
            plain_of(r.actor.user.email_addr), plain_of(r.actor.iam_role.uid), plain_of(r.actor.iam_role.name), plain_of(r.actor.process.name),
            plain_of(r.actor.session.uid)) AS actor
    FROM records
)
SELECT part, CASE
    WHEN class_uid IS NULL THEN 'class_uid is missing'
    WHEN coalesce(millis_of(r.time), millis_of(r.time_dt)) IS NULL THEN 'time is missing or is no time'
    WHEN class_uid = 3002 THEN 'user is missing'
    WHEN coalesce(plain_of(r.api.operation), plain_of(r.activity_name)) IS NULL THEN 'api.operation is missing'
    ELSE 'actor names nobody'
END AS reason
FROM told
WHERE class_uid IS NULL
    OR (class_uid IN (3001, 3002, 3005, 3007, 3008, 6003) AND coalesce(millis_of(r.time), millis_of(r.time_dt)) IS NULL)
    OR (class_uid = 3002 AND coalesce(plain_of(r.user.uid), plain_of(r.user.name), plain_of(r.user.email_addr)) IS NULL)
    OR (class_uid IN (3001, 3005, 3007, 3008, 6003) AND (actor IS NULL OR coalesce(plain_of(r.api.operation), plain_of(r.activity_name)) IS NULL))
