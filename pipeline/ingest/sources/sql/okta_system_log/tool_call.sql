-- One event that is not an authorization server's.
WITH event AS (
    SELECT *, text_of(r.eventType) AS type, coalesce(text_of(r.orgDomain), $instance) AS org,
        text_of(r.transaction.detail.requestApiTokenId) AS api_token,
        -- A person's session is what the person came with; one made for a single request is not.
        CASE WHEN r.actor.type = 'User' AND r.authenticationContext.externalSessionId NOT LIKE 'trs%'
            THEN nullif(text_of(r.authenticationContext.externalSessionId), 'unknown') END AS session
    FROM records
    WHERE NOT regexp_matches(r.eventType, '^app[.]oauth2[.](as[.])?(token[.](grant|revoke|detect_reuse)|consent[.](grant|revoke)|authorize[.]implicit[.])')
)
SELECT
    part,
    coalesce(text_of(r.uuid), sha256) AS event_id,
    concat_ws(':', 'okta.system_log', org) AS source,
    moment_of(r.published) AS event_time,
    'idp' AS observer,
    $tenant_id AS tenant_id,
    'okta:' || org AS trust_domain,
    nullif(text_of(r.authenticationContext.externalSessionId), 'unknown') AS session_id,
    type AS tool_name,
    'okta' AS tool_server,
    'cloud_api' AS tool_protocol,
    type AS operation,
    CASE
        WHEN r.outcome.result IN ('SUCCESS', 'ALLOW') THEN 'success'
        WHEN r.outcome.result = 'DENY' THEN 'denied'
        WHEN r.outcome.result IN ('FAILURE', 'RATE_LIMIT', 'ABANDONED') THEN 'failure'
        ELSE 'unknown'
    END AS outcome,
    CASE r.outcome.result WHEN 'ALLOW' THEN 'allow' WHEN 'DENY' THEN 'deny' END AS decision_effect,
    CASE
        WHEN type = 'application.user_membership.show_password' THEN 'secret_read'
        WHEN regexp_matches(type, 'privilege[.](grant|revoke)|[.](user|group)_membership[.]|[.]application_assignment[.]|^system[.]api_token[.]|^iam[.]|^(policy|zone)[.](lifecycle|rule)|^user[.]lifecycle[.]|mfa[.]factor[.](activate|deactivate|update|suspend|unsuspend|reset_all)|^user[.]account[.](update|reset|expire|unlock)|^(oauth2|app[.]oauth2[.](client|credentials))[.]|^system[.](idp|org|agent|log_stream)[.](lifecycle|key)|^app[.]access_request[.](approver|grant)|consent')
            THEN 'admin_iam'
        WHEN regexp_matches(type, '[.](delete|remove)[a-z_]*$') THEN 'delete'
        WHEN regexp_matches(type, '[.](create|update|add|import|activate|deactivate)[a-z_]*$') THEN 'write'
        WHEN regexp_matches(type, '[.](export|download)[a-z_.]*$') THEN 'read'
    END AS action_class,
    CASE WHEN len(r.target) > 0 THEN concat_ws(':', text_of(r.target[1].type), coalesce(text_of(r.target[1].id), text_of(r.target[1].alternateId))) END AS resource,
    coalesce(text_of(r.uuid), sha256) AS call_id,
    coalesce(text_of(r.actor.id), text_of(r.actor.alternateId), 'unknown') AS agent_id,
    CASE WHEN r.actor.id <> '' THEN concat_ws(':', 'okta', org) END AS agent_issuer,
    text_of(r.actor.id) AS actor_id,
    CASE WHEN r.actor.id <> '' THEN concat_ws(':', 'okta', org) END AS actor_issuer,
    'none' AS actor_convention,
    CASE WHEN coalesce(api_token, session) IS NOT NULL THEN concat_ws(':', 'okta', org) END AS credential_issuer,
    CASE WHEN api_token IS NOT NULL THEN 'api_key_id' WHEN session IS NOT NULL THEN 'local' END AS credential_kind,
    coalesce(api_token, session) AS credential_id,
    coalesce(text_of(r.client.ipAddress), text_of(r.request.ipChain[1].ip)) AS src_ip,
    text_of(r.client.userAgent.rawUserAgent) AS user_agent,
    ext_of(
        ['actorType', 'actorAlternateId', 'clientId', 'outcomeResult', 'outcomeReason', 'transactionId', 'requestId', 'targetAlternateId', 'record_sha256'],
        [r.actor.type, r.actor.alternateId, r.client.id, r.outcome.result, r.outcome.reason, r.transaction.id,
            r.debugContext.debugData.requestId, r.target[1].alternateId, sha256]
    ) AS ext
FROM event
WHERE event_time IS NOT NULL AND type IS NOT NULL
