-- API tokens that are made or revoked; each has the rights of the user who made it.
WITH event AS (
    SELECT *,
        coalesce(text_of(r.orgDomain), $instance) AS org,
        list_filter(r.target, lambda one: one.type = 'Token')[1] AS token
    FROM records
    WHERE regexp_matches(r.eventType, '^system[.]api_token[.](create|revoke)$') AND r.outcome.result = 'SUCCESS'
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
    regexp_extract(r.eventType, '[a-z]+$') AS op,
    text_of(token.id) AS secret_id,
    'api_key' AS secret_kind,
    'okta' AS store,
    CASE WHEN op = 'create' THEN text_of(r.actor.id) END AS bound_identity_id,
    CASE WHEN op = 'create' AND r.actor.id <> '' THEN concat_ws(':', 'okta', org) END AS bound_identity_issuer,
    text_of(r.actor.id) AS accessed_by_id,
    CASE WHEN r.actor.id <> '' THEN concat_ws(':', 'okta', org) END AS accessed_by_issuer,
    CASE WHEN op = 'create' THEN event_time END AS created_at,
    ext_of(['tokenName', 'actorAlternateId', 'transactionId'], [token.displayName, r.actor.alternateId, r.transaction.id]) AS ext
FROM event
WHERE event_time IS NOT NULL AND token.id <> ''
