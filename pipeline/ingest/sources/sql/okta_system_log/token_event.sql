-- What an authorization server did with tokens and consents, API tokens that are revoked, and
-- the sessions of people.
WITH event AS (
    SELECT *,
        text_of(r.eventType) AS type,
        coalesce(text_of(r.orgDomain), $instance) AS org,
        r.debugContext.debugData AS data,
        CASE
            WHEN r.eventType = 'user.session.start' OR regexp_matches(r.eventType, '^app[.]oauth2[.](as[.])?(token[.]grant|authorize[.]implicit)') THEN 'grant'
            WHEN r.eventType = 'user.session.end' THEN 'revoke'
            ELSE regexp_extract(r.eventType, '(consent[.]grant|consent[.]revoke|detect_reuse|revoke)', 1)
        END AS what,
        -- The kind of token that the event is about, where its name says so.
        CASE WHEN r.eventType LIKE 'system.%' THEN 'token'
            ELSE regexp_extract(r.eventType, '[.](access_token|refresh_token|id_token|id_jag)', 1) END AS wanted,
        list_filter(r.target, lambda one: one.type = 'User')[1].id AS user_id,
        list_filter(r.target, lambda one: one.type = 'AuthorizationServer')[1].id AS server_id,
        list_filter(r.target, lambda one: regexp_matches(lower(one.type), '^(access_token|refresh_token|id_token|id_jag|token)$') AND one.id <> '') AS tokens,
        regexp_matches(r.actor.type, '(?i)app|client|workload|agent') AS by_app,
        CASE WHEN r.eventType LIKE 'user.session.%' AND r.authenticationContext.externalSessionId NOT LIKE 'trs%'
            THEN nullif(text_of(r.authenticationContext.externalSessionId), 'unknown') END AS session,
        CASE WHEN r.authenticationContext.externalSessionId NOT LIKE 'trs%'
            THEN nullif(text_of(r.authenticationContext.externalSessionId), 'unknown') END AS held_in
    FROM records
    WHERE regexp_matches(r.eventType,
        '^app[.]oauth2[.](as[.])?(token[.](grant|revoke|detect_reuse)|consent[.](grant|revoke)|authorize[.]implicit[.])|^system[.]api_token[.]revoke$|^user[.]session[.](start|end)$')
),
about AS (
    SELECT *,
        CASE
            WHEN what LIKE 'consent%' THEN []
            WHEN wanted <> '' THEN list_filter(tokens, lambda one: lower(one.type) = wanted)
            WHEN what = 'detect_reuse' AND len(list_filter(tokens, lambda one: lower(one.type) = 'refresh_token')) > 0
                THEN list_filter(tokens, lambda one: lower(one.type) = 'refresh_token')
            ELSE tokens
        END AS chosen,
        -- What else is among the targets was presented, where the grant tells it from what was made.
        CASE WHEN what = 'grant' AND wanted <> '' THEN list_filter(tokens, lambda one: lower(one.type) <> wanted) ELSE [] END AS presented,
        coalesce(CASE WHEN regexp_matches(r.actor.type, '(?i)workload|agent') THEN text_of(r.actor.id) END, text_of(r.client.id),
            CASE WHEN by_app THEN text_of(r.actor.id) END) AS app,
        coalesce(text_of(user_id), CASE WHEN r.actor.type = 'User' THEN text_of(r.actor.id) END) AS person,
        coalesce(r.outcome.result NOT IN ('SUCCESS', 'ALLOW'), false) AS failed,
        -- The server's name in a token's `iss`: that of its path, which for the default one is no id.
        coalesce(nullif(regexp_extract(data.requestUri, '/oauth2/([^/]+)/v1/', 1), ''), text_of(server_id)) AS server
    FROM event
),
one AS (
    SELECT *, unnest(range(greatest(len(chosen), 1))) + 1 AS place
    FROM about
),
named AS (
    SELECT *,
        chosen[place] AS token,
        -- Okta writes the `act` claim as text, the current actor outermost.
        CASE WHEN json_valid(chosen[place].detailEntry.actor) THEN chosen[place].detailEntry.actor END AS claim,
        CASE
            WHEN type NOT LIKE 'app.%' THEN concat_ws(':', 'okta', org)
            WHEN NOT regexp_matches(type, '^app[.]oauth2[.]as[.]') THEN coalesce('https://' || org, 'okta')
            WHEN server IS NOT NULL THEN coalesce('https://' || org || '/oauth2/' || server, 'okta:' || server)
            -- An empty issuer names none.
            ELSE ''
        END AS server_issuer
    FROM one
)
SELECT
    part,
    concat_ws('/', coalesce(text_of(r.uuid), sha256), CASE WHEN len(chosen) > 1 THEN token.id END) AS event_id,
    concat_ws(':', 'okta.system_log', org) AS source,
    moment_of(r.published) AS event_time,
    'idp' AS observer,
    $tenant_id AS tenant_id,
    'okta:' || org AS trust_domain,
    nullif(text_of(r.authenticationContext.externalSessionId), 'unknown') AS session_id,
    CASE
        WHEN what = 'grant' THEN CASE data.grantType WHEN 'refresh_token' THEN 'refresh' WHEN 'urn:ietf:params:oauth:grant-type:token-exchange' THEN 'exchange' ELSE 'issue' END
        WHEN what = 'detect_reuse' THEN 'reuse_detected'
        ELSE replace(what, '.', '_')
    END AS op,
    -- That reuse was seen is no failure, whatever became of the request.
    CASE WHEN failed AND what <> 'detect_reuse' THEN 'failure' ELSE 'success' END AS outcome,
    CASE WHEN failed THEN coalesce(text_of(r.outcome.reason), text_of(r.outcome.result)) END AS error,
    CASE WHEN token.id <> '' OR outcome = 'success' THEN server_issuer END AS credential_issuer,
    CASE
        WHEN token.id <> '' THEN CASE WHEN type LIKE 'system.%' THEN 'api_key_id' ELSE 'jti' END
        WHEN outcome = 'success' THEN 'local'
    END AS credential_kind,
    coalesce(text_of(token.id), CASE WHEN outcome = 'success' THEN coalesce(session, text_of(r.uuid), sha256) END) AS credential_id,
    coalesce(CASE WHEN type LIKE 'system.%' THEN 'api_token' WHEN session IS NOT NULL THEN 'session' END, lower(text_of(token.type)), nullif(wanted, '')) AS token_type,
    CASE WHEN session IS NOT NULL THEN CASE WHEN what = 'grant' THEN 'interactive' END
        WHEN what = 'grant' THEN coalesce(text_of(data.grantType), CASE WHEN type LIKE '%.authorize.implicit.%' THEN 'implicit' END) END AS grant_type,
    CASE WHEN type NOT LIKE 'system.%' THEN coalesce(text_of(r.client.id), CASE WHEN by_app THEN text_of(r.actor.id) END) END AS client_id,
    -- Who revokes an API token need not be who made it.
    CASE WHEN type NOT LIKE 'system.%' THEN coalesce(person, CASE WHEN data.grantType = 'client_credentials' THEN app END, text_of(token.detailEntry.subject)) END AS subject_id,
    CASE WHEN subject_id IS NOT NULL THEN concat_ws(':', 'okta', org) END AS subject_issuer,
    CASE
        WHEN subject_id IS NULL THEN NULL
        WHEN person IS NOT NULL THEN 'human'
        WHEN data.grantType = 'client_credentials' AND app IS NOT NULL THEN 'client'
        WHEN token.detailEntry.subject <> '' THEN 'unknown'
    END AS subject_kind,
    app AS actor_id,
    CASE WHEN app IS NOT NULL THEN concat_ws(':', 'okta', org) END AS actor_issuer,
    CASE WHEN json_extract_string(claim, '$.sub') <> '' THEN 'act'
        WHEN app IS NOT NULL THEN 'client_id' ELSE 'none' END AS actor_convention,
    list_transform(
        list_filter(list_zip(
            json_extract_string(claim, ['$.sub', '$.act.sub', '$.act.act.sub', '$.act.act.act.sub', '$.act.act.act.act.sub']),
            json_extract_string(claim, ['$.iss', '$.act.iss', '$.act.act.iss', '$.act.act.act.iss', '$.act.act.act.act.iss'])
        ), lambda pair: pair[1] IS NOT NULL), lambda pair: {'issuer': pair[2], 'subject': pair[1]}) AS act_chain,
    json_extract(claim, '$.act.act.act.act.act') IS NOT NULL AS act_truncated,
    CASE
        WHEN what IN ('consent.grant', 'consent.revoke') THEN list_transform(list_filter(r.target, lambda one: lower(one.type) LIKE '%scope%'), lambda one: coalesce(one.displayName, one.id))
        -- An ID token tells who somebody is and allows nothing.
        WHEN what = 'grant' AND NOT failed AND wanted <> 'id_token' THEN list_filter(string_split_regex(trim(data.grantedScopes), '[\s,]+'), lambda one: one <> '')
    END AS scopes,
    len(scopes) > 0 IS TRUE AS scope_known,
    CASE WHEN what = 'grant' THEN list_filter(string_split_regex(trim(data.requestedScopes), '[\s,]+'), lambda one: one <> '') END AS requested_scopes,
    -- The log does not say which grant a refresh goes on with.  In one session the same user's
    -- same app with the same scopes is the same grant; without a session nobody can tell.
    CASE WHEN what = 'grant' AND outcome = 'success' AND person IS NOT NULL AND app IS NOT NULL AND held_in IS NOT NULL AND len(scopes) > 0
            AND data.grantType NOT IN ('client_credentials', 'urn:ietf:params:oauth:grant-type:token-exchange', 'urn:ietf:params:oauth:grant-type:jwt-bearer')
        THEN substr(sha256(concat_ws(chr(31), person, app, held_in, array_to_string(list_sort(scopes), ' '))), 1, 32) END AS family_id,
    list_sort(list_distinct(list_filter([text_of(data.authorizationServerAudience), text_of(data.resource)], lambda one: one IS NOT NULL))) AS audience,
    CASE WHEN what = 'grant' AND outcome = 'success' THEN moment_of(r.published) END AS issued_at,
    CASE WHEN type = 'user.session.start' AND outcome = 'success' THEN moment_of(r.published) END AS auth_time,
    CASE WHEN what = 'grant' THEN moment_of(token.detailEntry.expires) END AS expires_at,
    CASE data.grantType
        WHEN 'urn:ietf:params:oauth:grant-type:jwt-bearer' THEN list_transform(presented, lambda one: {'role': 'assertion', 'issuer': NULL, 'kind': 'jti', 'id': one.id})
        WHEN 'urn:ietf:params:oauth:grant-type:token-exchange' THEN list_transform(presented, lambda one: {'role': 'subject', 'issuer': NULL, 'kind': 'jti', 'id': one.id})
    END AS parents,
    CASE WHEN what = 'revoke' THEN CASE WHEN type LIKE '%.client' THEN 'client' WHEN type LIKE '%.user' THEN 'subject' ELSE 'token' END END AS revoke_target,
    CASE WHEN what = 'revoke' THEN type END AS revoke_reason,
    ext_of(
        ['eventType', 'actorType', 'actorAlternateId', 'clientAuthType', 'authorizationServerName', 'authorizationServerId', 'tokenHash', 'transactionId',
            'requestId', 'outcomeResult', 'ipAddress', 'userAgent', 'record_sha256'],
        [type, r.actor.type, r.actor.alternateId, data.clientAuthType, data.authorizationServerName, server_id, token.detailEntry.hash, r.transaction.id,
            data.requestId, r.outcome.result, r.client.ipAddress, r.client.userAgent.rawUserAgent, sha256]
    ) AS ext
FROM named
WHERE event_time IS NOT NULL
    -- Of an API token only its end is told here.
    AND NOT (type LIKE 'system.%' AND (failed OR coalesce(token.id, '') = ''))
    AND NOT (type LIKE 'user.session.%' AND (failed OR session IS NULL))
