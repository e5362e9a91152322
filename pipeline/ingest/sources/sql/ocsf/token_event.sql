-- Authentications; delegations, as every record under them tells them; tokens used beside a delegation.
WITH told AS (
    SELECT
        *,
        coalesce(r.class_uid, r.type_uid // 100) AS class_uid,
        coalesce(millis_of(r.time), millis_of(r.time_dt)) AS told_at,
        coalesce(r.ai_agent, r.ai_operation.ai_agent) AS agent,
        coalesce(r.delegation, r.ai_operation.delegation) AS granted,
        coalesce(plain_of(r.user.uid), plain_of(r.user.name), plain_of(r.user.email_addr)) AS person,
        coalesce(plain_of(r.actor.user.uid), plain_of(r.actor.user.name), plain_of(r.actor.user.email_addr),
            plain_of(r.actor.iam_role.uid), plain_of(r.actor.iam_role.name)) AS doer,
        coalesce(plain_of(r.actor.app_uid), plain_of(r.actor.app_name), plain_of(r.actor.invoked_by)) AS app,
        concat_ws(':', regexp_replace(lower(concat_ws('.', 'ocsf', plain_of(r.metadata.product.vendor_name), plain_of(r.metadata.product.name))), '[^a-z0-9._-]+', '_', 'g'),
            coalesce(plain_of(r.cloud.account.uid), $instance)) AS source,
        coalesce(plain_of(r.session.issuer), plain_of(r.actor.idp.issuer), plain_of(r.actor.session.issuer)) AS idp,
        coalesce(plain_of(r.actor.user.account.uid), plain_of(r.cloud.account.uid)) AS account,
        r.status_id = 2 OR r.action_id = 2 OR r.disposition_id IN (2, 6, 24, 25, 26) AS is_failed
    FROM records
),
known AS MATERIALIZED (
    SELECT
        *,
        coalesce(plain_of(agent.uid), plain_of(agent.name)) AS agent_name,
        coalesce(idp, CASE WHEN account IS NOT NULL THEN concat_ws(':', lower(text_of(r.cloud.provider)), account) END) AS realm,
        coalesce(plain_of(r.authentication_token.uid), plain_of(r.session.credential_uid), plain_of(r.session.uid)) AS made,
        coalesce(plain_of(r.actor.session.credential_uid), plain_of(r.actor.user.credential_uid), plain_of(r.api.token.uid)) AS shown,
        CASE
            WHEN r.activity_id IN (1, 3) THEN 'issue'
            WHEN r.activity_id = 2 THEN 'revoke'
            WHEN r.activity_id = 4 THEN 'exchange'
            WHEN r.activity_id = 5 THEN 'refresh'
            WHEN r.activity_id = 7 THEN 'assume'
            WHEN regexp_matches(r.activity_name, '(?i)exchange') THEN 'exchange'
            WHEN regexp_matches(r.activity_name, '(?i)reuse|replay') THEN 'reuse_detected'
            WHEN regexp_matches(r.activity_name, '(?i)refresh|renew') THEN 'refresh'
            WHEN regexp_matches(r.activity_name, '(?i)revo(ke|cation)') THEN 'revoke'
            WHEN regexp_matches(r.activity_name, '(?i)introspect|validat|verif') THEN 'introspect'
            WHEN regexp_matches(r.activity_name, '(?i)assume|impersonat') THEN 'assume'
            WHEN regexp_matches(r.activity_name, '(?i)issue|mint|token grant') THEN 'issue'
            ELSE 'use'
        END AS done,
        CASE WHEN r.cloud.provider IS NOT NULL THEN 'cloud_audit'
            WHEN r.action_id IS NOT NULL OR r.disposition_id IS NOT NULL THEN 'gateway'
            WHEN class_uid = 6003 THEN 'resource_server' ELSE 'idp' END AS seen_by
    FROM told
    WHERE told_at IS NOT NULL
),
authentications AS (
    SELECT
        part,
        coalesce(plain_of(r.metadata.uid), sha256) AS event_id,
        source,
        told_at AS event_time,
        CASE WHEN r.cloud.provider IS NOT NULL THEN 'cloud_audit' ELSE 'idp' END AS observer,
        plain_of(granted.uid) AS delegation_record_id,
        lower(plain_of(r.trace.uid)) AS trace_id,
        plain_of(r.session.uid) AS session_id,
        plain_of(r.metadata.correlation_uid) AS task_id,
        CASE WHEN coalesce(is_failed, false) AND done IN ('issue', 'exchange', 'refresh', 'assume') THEN 'deny' ELSE done END AS op,
        CASE WHEN coalesce(is_failed, false) THEN 'failure' ELSE 'success' END AS outcome,
        CASE WHEN coalesce(is_failed, false) THEN plain_of(r.status_code) END AS error,
        CASE WHEN made IS NOT NULL THEN coalesce(idp, source) END AS credential_issuer,
        CASE WHEN made IS NULL THEN NULL
            WHEN plain_of(r.authentication_token.uid) IS NOT NULL
                AND (r.authentication_token.type_id = 3 OR (r.auth_protocol_id IN (4, 6) AND r.authentication_token.type_id IS DISTINCT FROM 4)) THEN 'jti'
            ELSE 'local' END AS credential_kind,
        made AS credential_id,
        CASE r.authentication_token.type_id
            WHEN 3 THEN 'urn:ietf:params:oauth:token-type:id_token' WHEN 4 THEN 'urn:ietf:params:oauth:token-type:refresh_token'
            WHEN 5 THEN 'urn:ietf:params:oauth:token-type:saml2' ELSE plain_of(r.authentication_token.type) END AS token_type,
        CASE WHEN done = 'exchange' AND r.activity_id IS DISTINCT FROM 4 THEN 'urn:ietf:params:oauth:grant-type:token-exchange'
            WHEN r.auth_protocol_id = 5 AND done = 'issue' THEN 'saml' END AS grant_type,
        plain_of(r.actor.app_uid) AS client_id,
        person AS subject_id,
        realm AS subject_issuer,
        CASE WHEN r.user.type_id IN (1, 2) THEN 'human' WHEN r.user.type_id IN (3, 4) THEN 'service_account' END AS subject_kind,
        coalesce(agent_name, app, CASE WHEN doer <> person THEN doer END) AS actor_id,
        CASE WHEN agent_name IS NULL AND app IS NULL AND doer <> person THEN realm END AS actor_issuer,
        CASE WHEN agent_name IS NULL AND app IS NOT NULL THEN 'client_id' WHEN r.activity_id = 7 THEN 'impersonation' END AS actor_convention,
        CAST([] AS VARCHAR[]) AS scopes,
        false AS scope_known,
        list_filter([coalesce(plain_of(r.service.uid), plain_of(r.service.name), plain_of(r.dst_endpoint.svc_name), plain_of(r.dst_endpoint.hostname))],
            lambda one: one IS NOT NULL) AS audience,
        coalesce(millis_of(r.authentication_token.created_time), millis_of(r.authentication_token.created_time_dt),
            millis_of(r.session.created_time), millis_of(r.session.created_time_dt)) AS issued_at,
        coalesce(millis_of(r.authentication_token.expiration_time), millis_of(r.authentication_token.expiration_time_dt),
            millis_of(r.session.expiration_time), millis_of(r.session.expiration_time_dt)) AS expires_at,
        CASE WHEN r.activity_id = 1 AND r.user.type_id IN (1, 2) AND coalesce(r.logon_type_id, 0) NOT IN (3, 4, 5, 8) AND is_failed IS NOT TRUE
            THEN told_at END AS auth_time,
        CAST(list_filter([
            CASE WHEN done IN ('exchange', 'refresh', 'assume') AND shown <> made
                THEN {'role': CASE WHEN done = 'refresh' THEN 'refresh' ELSE 'subject' END, 'issuer': coalesce(idp, source),
                    'kind': CASE WHEN r.auth_protocol_id IN (4, 6) THEN 'jti' ELSE 'local' END, 'id': shown} END,
            CASE WHEN plain_of(granted.uid) IS NOT NULL
                THEN {'role': 'delegation', 'issuer': coalesce(plain_of(granted.issuer_uid), source), 'kind': 'local', 'id': plain_of(granted.uid)} END
        ], lambda one: one IS NOT NULL) AS STRUCT("role" VARCHAR, issuer VARCHAR, "kind" VARCHAR, id VARCHAR)[]) AS parents,
        ext_of(
            ['class_uid', 'event_code', 'activity_name', 'ocsf_version', 'auth_protocol', 'is_mfa', 'app_name'],
            [CAST(class_uid AS VARCHAR), plain_of(r.metadata.event_code), plain_of(r.activity_name), plain_of(r.metadata.version),
                plain_of(r.auth_protocol), CAST(r.session.is_mfa AS VARCHAR), plain_of(r.actor.app_name)]
        ) AS ext
    FROM known
    WHERE class_uid = 3002 AND person IS NOT NULL AND (made IS NOT NULL OR coalesce(is_failed, false))
),
delegations AS (
    SELECT
        part,
        -- Told by many records, stored once where they tell the same.
        'delegation/' || plain_of(granted.uid) || '/' || substr(sha256(concat_ws(chr(31), granted.parent_uid, granted.issuer_uid, granted.scopes,
            granted.audience, granted.expiration_time, granted.expiration_time_dt, coalesce(doer, person), realm, r.actor.user.type_id, r.user.type_id,
            seen_by, agent_name, app,
            coalesce(CAST(coalesce(millis_of(granted.created_time), millis_of(granted.created_time_dt)) AS VARCHAR), r.metadata.uid, records.sha256))), 1, 16)
            AS event_id,
        source,
        coalesce(millis_of(granted.created_time), millis_of(granted.created_time_dt), told_at) AS event_time,
        seen_by AS observer,
        CAST(NULL AS VARCHAR) AS delegation_record_id,
        CAST(NULL AS VARCHAR) AS trace_id,
        CAST(NULL AS VARCHAR) AS session_id,
        CAST(NULL AS VARCHAR) AS task_id,
        'delegate' AS op,
        'success' AS outcome,
        CAST(NULL AS VARCHAR) AS error,
        -- Where the issuer is not told, the ids are those of who tells it.
        coalesce(plain_of(granted.issuer_uid), source) AS credential_issuer,
        'local' AS credential_kind,
        plain_of(granted.uid) AS credential_id,
        'ocsf_delegation' AS token_type,
        CAST(NULL AS VARCHAR) AS grant_type,
        CAST(NULL AS VARCHAR) AS client_id,
        coalesce(doer, person) AS subject_id,
        CASE WHEN coalesce(doer, person) IS NOT NULL THEN realm END AS subject_issuer,
        CASE WHEN coalesce(r.actor.user.type_id, r.user.type_id) IN (1, 2) THEN 'human'
            WHEN coalesce(r.actor.user.type_id, r.user.type_id) IN (3, 4) THEN 'service_account' END AS subject_kind,
        coalesce(agent_name, app) AS actor_id,
        CAST(NULL AS VARCHAR) AS actor_issuer,
        CAST(NULL AS VARCHAR) AS actor_convention,
        coalesce(texts_of(granted.scopes, ' '), []) AS scopes,
        texts_of(granted.scopes, ' ') IS NOT NULL AS scope_known,
        coalesce(texts_of(granted.audience, NULL), []) AS audience,
        coalesce(millis_of(granted.created_time), millis_of(granted.created_time_dt)) AS issued_at,
        coalesce(millis_of(granted.expiration_time), millis_of(granted.expiration_time_dt)) AS expires_at,
        CAST(NULL AS TIMESTAMPTZ) AS auth_time,
        -- Without one it is a root or a lost record: nobody can tell.  Whose the parent is OCSF does not say.
        CAST(CASE WHEN plain_of(granted.parent_uid) IS NOT NULL
            THEN [{'role': 'delegation', 'issuer': coalesce(plain_of(granted.issuer_uid), source), 'kind': 'local', 'id': plain_of(granted.parent_uid)}]
            ELSE [] END AS STRUCT("role" VARCHAR, issuer VARCHAR, "kind" VARCHAR, id VARCHAR)[]) AS parents,
        CAST(MAP {} AS MAP(VARCHAR, VARCHAR)) AS ext
    FROM known AS records
    WHERE class_uid IN (3001, 3002, 3005, 3007, 3008, 6003) AND plain_of(granted.uid) IS NOT NULL
),
used AS (
    SELECT
        part,
        coalesce(plain_of(r.metadata.uid), sha256) || '/token' AS event_id,
        source,
        told_at AS event_time,
        seen_by AS observer,
        plain_of(granted.uid) AS delegation_record_id,
        lower(plain_of(r.trace.uid)) AS trace_id,
        plain_of(r.actor.session.uid) AS session_id,
        plain_of(r.metadata.correlation_uid) AS task_id,
        'use' AS op,
        -- A call may fail for reasons of its own; only 401 says it of the token.
        CASE WHEN coalesce(r.api.response.code, r.http_response.code) = 401 THEN 'failure' ELSE 'success' END AS outcome,
        CASE WHEN coalesce(r.api.response.code, r.http_response.code) = 401 THEN plain_of(r.status_code) END AS error,
        coalesce(realm, source) AS credential_issuer,
        CASE WHEN r.api.token.type_id = 7 THEN 'api_key_id' WHEN r.api.token.type_id IN (3, 6) THEN 'jti' ELSE 'local' END AS credential_kind,
        plain_of(r.api.token.uid) AS credential_id,
        plain_of(r.api.token.type) AS token_type,
        CAST(NULL AS VARCHAR) AS grant_type,
        CAST(NULL AS VARCHAR) AS client_id,
        doer AS subject_id,
        CASE WHEN doer IS NOT NULL THEN realm END AS subject_issuer,
        CASE WHEN r.actor.user.type_id IN (1, 2) THEN 'human' WHEN r.actor.user.type_id IN (3, 4) THEN 'service_account' END AS subject_kind,
        coalesce(agent_name, app) AS actor_id,
        CAST(NULL AS VARCHAR) AS actor_issuer,
        CAST(NULL AS VARCHAR) AS actor_convention,
        CAST([] AS VARCHAR[]) AS scopes,
        false AS scope_known,
        CAST([] AS VARCHAR[]) AS audience,
        coalesce(millis_of(r.api.token.created_time), millis_of(r.api.token.created_time_dt)) AS issued_at,
        coalesce(millis_of(r.api.token.expiration_time), millis_of(r.api.token.expiration_time_dt)) AS expires_at,
        CAST(NULL AS TIMESTAMPTZ) AS auth_time,
        CAST([] AS STRUCT("role" VARCHAR, issuer VARCHAR, "kind" VARCHAR, id VARCHAR)[]) AS parents,
        CAST(MAP {} AS MAP(VARCHAR, VARCHAR)) AS ext
    FROM known
    WHERE class_uid = 6003 AND plain_of(granted.uid) IS NOT NULL AND plain_of(r.api.token.uid) IS NOT NULL
),
asked_for AS (
    SELECT *, r.api.request.data AS asked, r.api.response.data AS answer
    FROM known
    WHERE is_failed IS NOT TRUE AND regexp_full_match(r.api.operation, 'AssumeR[A-Za-z]+|GetSessionToken|GetFederationToken')
        AND lower(r.cloud.provider) IN ('aws', 'amazon', 'amazon web services')
        AND r.api.response.data.credentials.accessKeyId SIMILAR TO 'ASIA[A-Z0-9]{8,}'
),
taken AS (
    SELECT
        *,
        coalesce(plain_of(answer.sourceIdentity), plain_of(asked.sourceIdentity)) AS passed_on,
        coalesce(plain_of(answer.assumedRoleUser.arn), plain_of(answer.federatedUser.arn)) AS session_arn,
        coalesce(plain_of(asked.roleArn), regexp_replace(plain_of(answer.assumedRoleUser.arn), ':sts::([0-9]*):assumed-role/([^/]+)/.*', ':iam::\1:role/\2')) AS role,
        coalesce(plain_of(r.actor.user.credential_uid), plain_of(r.actor.session.credential_uid)) AS caller
    FROM asked_for
),
assumed AS (
    -- A session's key that AWS's token service handed out: the way to whose it is.
    SELECT
        part,
        coalesce(plain_of(r.metadata.uid), sha256) || '/key' AS event_id,
        source,
        told_at AS event_time,
        seen_by AS observer,
        plain_of(r.actor.session.uid) AS session_id,
        'assume' AS op,
        'success' AS outcome,
        'aws' AS credential_issuer,
        'access_key_id' AS credential_kind,
        answer.credentials.accessKeyId AS credential_id,
        'aws_session' AS token_type,
        coalesce(passed_on, plain_of(answer.subjectFromWebIdentityToken), plain_of(answer.subject)) AS subject_id,
        CASE WHEN passed_on IS NOT NULL THEN 'aws' END AS subject_issuer,
        CASE WHEN subject_id IS NOT NULL THEN 'unknown' END AS subject_kind,
        coalesce(role, session_arn, doer) AS actor_id,
        CASE WHEN actor_id LIKE 'arn:%' THEN nullif('aws:' || split_part(actor_id, ':', 5), 'aws:') ELSE realm END AS actor_issuer,
        CASE WHEN role IS NOT NULL THEN 'role_session' ELSE 'none' END AS actor_convention,
        false AS scope_known,
        'aws' AS scope_dialect,
        told_at AS issued_at,
        coalesce(millis_of(answer.credentials.expiration),
            TRY_STRPTIME(answer.credentials.expiration, ['%b %d, %Y, %I:%M:%S %p', '%b %d, %Y %I:%M:%S %p'])) AS expires_at,
        -- A key is no parent of itself.
        CAST(CASE WHEN caller SIMILAR TO 'A[KS]IA[A-Z0-9]+' AND caller <> answer.credentials.accessKeyId
            THEN [{'role': 'source', 'issuer': 'aws', 'kind': 'access_key_id', 'id': caller}]
            ELSE [] END AS STRUCT("role" VARCHAR, issuer VARCHAR, "kind" VARCHAR, id VARCHAR)[]) AS parents,
        ext_of(['class_uid', 'callerId', 'sessionArn'], [CAST(class_uid AS VARCHAR), doer, session_arn]) AS ext
    FROM taken
)
SELECT *, $tenant_id AS tenant_id
FROM (
    SELECT * FROM authentications UNION ALL SELECT * FROM delegations UNION ALL SELECT * FROM used
    UNION ALL BY NAME SELECT * FROM assumed
)
