-- Programmatic credentials added to a user (18) or a role (10), or taken away (19, 11).
WITH told AS (
    SELECT
        *,
        coalesce(r.class_uid, r.type_uid // 100) AS class_uid,
        coalesce(millis_of(r.time), millis_of(r.time_dt)) AS told_at,
        coalesce(nullif(r.programmatic_credentials, []), r.user.programmatic_credentials) AS credentials,
        coalesce(plain_of(r.user.uid), plain_of(r.user.name), plain_of(r.user.email_addr), plain_of(r.iam_role.uid), plain_of(r.iam_role.name)) AS holder,
        coalesce(plain_of(r.actor.user.uid), plain_of(r.actor.user.name), plain_of(r.actor.user.email_addr), plain_of(r.actor.app_uid)) AS doer,
        lower(r.cloud.provider) IN ('aws', 'amazon', 'amazon web services') IS TRUE AS is_aws,
        coalesce(plain_of(r.actor.idp.issuer), CASE WHEN plain_of(r.cloud.account.uid) IS NOT NULL
            THEN concat_ws(':', lower(plain_of(r.cloud.provider)), plain_of(r.cloud.account.uid)) END) AS realm
    FROM records
),
each AS (
    SELECT *, unnest(credentials) AS one, generate_subscripts(credentials, 1) AS place
    FROM told
    WHERE told_at IS NOT NULL AND r.status_id IS DISTINCT FROM 2
        AND ((class_uid = 3007 AND r.activity_id IN (18, 19)) OR (class_uid = 3008 AND r.activity_id IN (10, 11)))
)
SELECT
    part,
    coalesce(plain_of(r.metadata.uid), sha256) || '/' || place AS event_id,
    concat_ws(':', regexp_replace(lower(concat_ws('.', 'ocsf', plain_of(r.metadata.product.vendor_name), plain_of(r.metadata.product.name))), '[^a-z0-9._-]+', '_', 'g'),
        coalesce(plain_of(r.cloud.account.uid), $instance)) AS source,
    told_at AS event_time,
    CASE WHEN r.cloud.provider IS NOT NULL THEN 'cloud_audit' ELSE 'idp' END AS observer,
    $tenant_id AS tenant_id,
    CASE WHEN r.activity_id IN (11, 19) THEN 'delete' ELSE 'create' END AS op,
    plain_of(one.uid) AS secret_id,
    CASE
        WHEN is_aws AND one.uid SIMILAR TO 'A[KS]IA[A-Z0-9]{16}' THEN 'aws_access_key'
        WHEN regexp_matches(one.type, '(?i)personal.?access') THEN 'pat'
        WHEN regexp_matches(one.type, '(?i)service.?account.?key') AND lower(r.cloud.provider) IN ('gcp', 'google', 'google cloud') THEN 'gcp_sa_key'
        WHEN regexp_matches(one.type, '(?i)api.?key') THEN 'api_key'
        WHEN regexp_matches(one.type, '(?i)certificate') THEN 'x509'
        WHEN regexp_matches(one.type, '(?i)client.?secret') THEN 'client_secret'
        WHEN regexp_matches(one.type, '(?i)ssh') THEN 'ssh_key'
        WHEN plain_of(one.type) IS NOT NULL THEN 'other'
    END AS secret_kind,
    coalesce(realm, lower(plain_of(r.metadata.product.name))) AS store,
    holder AS bound_identity_id,
    CASE WHEN holder IS NOT NULL THEN realm END AS bound_identity_issuer,
    doer AS accessed_by_id,
    CASE WHEN doer IS NOT NULL THEN realm END AS accessed_by_issuer,
    CASE WHEN r.activity_id IN (10, 18) THEN told_at END AS created_at,
    millis_of(one.last_used_time) AS last_used_at
FROM each
WHERE plain_of(one.uid) IS NOT NULL
