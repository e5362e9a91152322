-- API calls, and changes of users, roles and accounts, which are calls that change rights.
WITH told AS (
    SELECT
        *,
        coalesce(r.class_uid, r.type_uid // 100) AS class_uid,
        coalesce(millis_of(r.time), millis_of(r.time_dt)) AS told_at,
        coalesce(r.ai_agent, r.ai_operation.ai_agent) AS agent,
        coalesce(r.delegation, r.ai_operation.delegation) AS granted,
        coalesce(plain_of(r.actor.user.uid), plain_of(r.actor.user.name), plain_of(r.actor.user.email_addr),
            plain_of(r.actor.iam_role.uid), plain_of(r.actor.iam_role.name)) AS person,
        coalesce(plain_of(r.actor.app_uid), plain_of(r.actor.app_name), plain_of(r.actor.invoked_by)) AS app,
        lower(r.cloud.provider) IN ('aws', 'amazon', 'amazon web services') IS TRUE AS is_aws,
        coalesce(plain_of(r.actor.idp.issuer), CASE WHEN NOT r.actor.session.issuer LIKE 'arn:%' THEN plain_of(r.actor.session.issuer) END) AS idp,
        coalesce(plain_of(r.actor.user.account.uid), plain_of(r.actor.iam_role.account.uid), plain_of(r.cloud.account.uid)) AS account,
        coalesce(r.api.response.code, r.http_response.code) AS code,
        concat_ws(':', regexp_replace(lower(concat_ws('.', 'ocsf', plain_of(r.metadata.product.vendor_name), plain_of(r.metadata.product.name))), '[^a-z0-9._-]+', '_', 'g'),
            coalesce(plain_of(r.cloud.account.uid), $instance)) AS source
    FROM records
),
known AS (
    SELECT
        *,
        coalesce(plain_of(agent.uid), plain_of(agent.name)) AS agent_name,
        -- A role session of AWS acts as its role, which is what lasts.
        CASE WHEN is_aws AND r.actor.session.issuer LIKE 'arn:%:role/%' THEN plain_of(r.actor.session.issuer) ELSE person END AS principal,
        coalesce(idp, CASE WHEN account IS NOT NULL THEN concat_ws(':', lower(text_of(r.cloud.provider)), account) END) AS realm,
        r.action_id = 2 OR r.disposition_id IN (2, 6, 24, 25, 26)
            OR lower(r.actor.authorizations[1].decision) IN ('denied', 'deny', 'blocked', 'rejected') AS is_denied,
        code IN (401, 403) OR regexp_matches(concat_ws(' ', r.status_code, r.api.response.error), '(?i)access.?denied|unauthorized|forbidden|permission.?denied')
            AS is_forbidden
    FROM told
)
SELECT
    part,
    coalesce(plain_of(r.metadata.uid), sha256) AS event_id,
    source,
    told_at AS event_time,
    CASE WHEN r.cloud.provider IS NOT NULL THEN 'cloud_audit'
        WHEN r.action_id IS NOT NULL OR r.disposition_id IS NOT NULL THEN 'gateway'
        WHEN class_uid = 6003 THEN 'resource_server' ELSE 'idp' END AS observer,
    $tenant_id AS tenant_id,
    plain_of(granted.uid) AS delegation_record_id,
    lower(plain_of(r.trace.uid)) AS trace_id,
    lower(plain_of(r.trace.span.uid)) AS span_id,
    lower(plain_of(r.trace.span.parent_uid)) AS parent_span_id,
    plain_of(r.actor.session.uid) AS session_id,
    plain_of(r.metadata.correlation_uid) AS task_id,
    coalesce(plain_of(r.api.operation), plain_of(r.activity_name)) AS tool_name,
    CASE
        WHEN coalesce(is_denied, false) OR (coalesce(is_forbidden, false) AND r.status_id IS DISTINCT FROM 1) THEN 'denied'
        WHEN code IN (408, 504) AND r.status_id IS DISTINCT FROM 1 THEN 'timeout'
        WHEN r.status_id = 1 THEN 'success'
        WHEN r.status_id = 2 OR code >= 400 OR plain_of(r.api.response.error) IS NOT NULL THEN 'failure'
        WHEN code BETWEEN 100 AND 399 THEN 'success'
        ELSE 'unknown'
    END AS outcome,
    coalesce(agent_name, CASE WHEN is_aws THEN principal END, app, principal, plain_of(r.actor.process.name), plain_of(r.actor.session.uid)) AS agent_id,
    CASE WHEN agent_name IS NULL AND (is_aws OR app IS NULL) THEN realm END AS agent_issuer,
    CASE WHEN agent_name IS NOT NULL THEN plain_of(agent.instance_uid) WHEN principal IS DISTINCT FROM person THEN person END AS agent_instance,
    plain_of(agent.version) AS agent_version,
    coalesce(plain_of(r.api.request.uid), plain_of(r.http_request.uid)) AS call_id,
    plain_of(r.api.service.name) AS tool_server,
    CASE WHEN r.cloud.provider IS NOT NULL THEN 'cloud_api' WHEN r.http_request IS NOT NULL THEN 'http' ELSE 'unknown' END AS tool_protocol,
    coalesce(CASE WHEN is_aws AND r.api.service.name LIKE '%.amazonaws.com' THEN split_part(r.api.service.name, '.', 1) || ':' END, '')
        || coalesce(plain_of(r.api.operation), plain_of(r.activity_name)) AS operation,
    coalesce(plain_of(r.resources[1].uid), plain_of(r.resources[1].name),
        CASE WHEN class_uid <> 6003 THEN coalesce(plain_of(r.user.uid), plain_of(r.user.name), plain_of(r.iam_role.uid), plain_of(r.iam_role.name)) END) AS resource,
    CASE
        WHEN class_uid <> 6003 THEN 'admin_iam'
        WHEN regexp_matches(r.api.operation, '(?i)get.?secret.?value|access.?secret.?version|decrypt') THEN 'secret_read'
        WHEN regexp_matches(r.api.operation, '(?i)^(attach|detach|put|create|delete|update|add|remove|set|grant|revoke).*(policy|role|permission|access.?key|credential|grant|iam)')
            THEN 'admin_iam'
        WHEN r.activity_id IN (1, 3) THEN 'write' WHEN r.activity_id = 2 THEN 'read' WHEN r.activity_id = 4 THEN 'delete'
    END AS action_class,
    CASE WHEN is_denied THEN 'deny'
        WHEN r.action_id = 1 OR r.disposition_id IN (1, 8) OR lower(r.actor.authorizations[1].decision) IN ('allowed', 'allow', 'approved', 'granted') THEN 'allow'
        WHEN coalesce(is_forbidden, false) AND r.status_id IS DISTINCT FROM 1 THEN 'deny' END AS decision_effect,
    coalesce(plain_of(r.actor.authorizations[1].policy.uid), plain_of(r.actor.authorizations[1].policy.name)) AS decision_policy,
    plain_of(r.actor.authorizations[1].policy.version) AS decision_policy_version,
    CASE WHEN agent_name IS NOT NULL OR (app IS NOT NULL AND NOT is_aws) THEN principal END AS subject_id,
    CASE WHEN (agent_name IS NOT NULL OR (app IS NOT NULL AND NOT is_aws)) AND principal IS NOT NULL THEN realm END AS subject_issuer,
    CASE WHEN (agent_name IS NOT NULL OR (app IS NOT NULL AND NOT is_aws)) AND principal IS NOT NULL
        THEN CASE WHEN r.actor.user.type_id IN (1, 2) AND NOT is_aws THEN 'human' WHEN r.actor.user.type_id IN (3, 4) THEN 'service_account' END
    END AS subject_kind,
    CASE WHEN agent_name IS NOT NULL OR (app IS NOT NULL AND principal IS NOT NULL AND NOT is_aws) THEN coalesce(agent_name, app) END AS actor_id,
    CASE WHEN agent_name IS NULL AND app IS NOT NULL AND principal IS NOT NULL AND NOT is_aws THEN 'client_id'
        WHEN agent_name IS NULL AND principal IS DISTINCT FROM person THEN 'role_session' END AS actor_convention,
    CASE
        WHEN plain_of(granted.uid) IS NOT NULL THEN coalesce(plain_of(granted.issuer_uid), source)
        WHEN is_aws AND coalesce(r.api.token.uid, r.actor.user.credential_uid, r.actor.session.credential_uid) SIMILAR TO 'A[KS]IA[A-Z0-9]+' THEN 'aws'
        WHEN coalesce(plain_of(r.api.token.uid), plain_of(r.actor.user.credential_uid), plain_of(r.actor.session.credential_uid)) IS NOT NULL THEN coalesce(realm, source)
    END AS credential_issuer,
    CASE
        WHEN plain_of(granted.uid) IS NOT NULL THEN 'local'
        WHEN is_aws AND coalesce(r.api.token.uid, r.actor.user.credential_uid, r.actor.session.credential_uid) SIMILAR TO 'A[KS]IA[A-Z0-9]+' THEN 'access_key_id'
        WHEN plain_of(r.api.token.uid) IS NOT NULL THEN CASE WHEN r.api.token.type_id = 7 THEN 'api_key_id' WHEN r.api.token.type_id IN (3, 6) THEN 'jti' ELSE 'local' END
        WHEN coalesce(plain_of(r.actor.user.credential_uid), plain_of(r.actor.session.credential_uid)) IS NOT NULL THEN 'local'
    END AS credential_kind,
    coalesce(plain_of(granted.uid), plain_of(r.api.token.uid), plain_of(r.actor.user.credential_uid), plain_of(r.actor.session.credential_uid)) AS credential_id,
    coalesce(texts_of(granted.audience, NULL), []) AS presented_audience,
    coalesce(texts_of(granted.scopes, ' '), []) AS presented_scopes,
    plain_of(r.src_endpoint.ip) AS src_ip,
    plain_of(r.http_request.user_agent) AS user_agent,
    args_hash,
    result_hash,
    ext_of(
        ['class_uid', 'event_code', 'activity_name', 'ocsf_version', 'region', 'app_name', 'status_code', 'token', 'delegation_parent_uid'],
        [CAST(class_uid AS VARCHAR), plain_of(r.metadata.event_code), plain_of(r.activity_name), plain_of(r.metadata.version),
            plain_of(r.cloud.region), app, plain_of(r.status_code),
            CASE WHEN granted.uid IS NOT NULL THEN plain_of(r.api.token.uid) END, plain_of(granted.parent_uid)]
    ) AS ext
FROM known
WHERE class_uid IN (6003, 3001, 3005, 3007, 3008) AND told_at IS NOT NULL
    AND coalesce(plain_of(r.api.operation), plain_of(r.activity_name)) IS NOT NULL
    AND coalesce(agent_name, app, principal, plain_of(r.actor.process.name), plain_of(r.actor.session.uid)) IS NOT NULL
