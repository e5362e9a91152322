-- An agent that a vendor runs has no third-party control: no review on record, a standing
-- credential in the vendor's hands, or a vendor account that nobody registered.
--
-- One row per tenant, agent and gap.  A dated exception, or a secret that was approved, holds.
-- The base severity already knows that a vendor is involved.
WITH hosted AS (
    SELECT *
    FROM reg_identities
    WHERE vendor_hosted AND status = 'active'
        AND NOT coalesce(vendor_exception_until > $as_of, false)
),
tenants AS (
    SELECT DISTINCT tenant_id FROM identity_activity
),
active AS (
    SELECT
        tenant_id, identity_id, min(first_at) AS first_at, max(last_at) AS last_at,
        list_sort(list_distinct(flatten(list(event_uids)))) AS event_uids
    FROM identity_activity
    GROUP BY tenant_id, identity_id
),
-- Whose a credential is, or who uses it: a key that a vendor's agent presents lies with the vendor.
presented AS (
    SELECT
        call.tenant_id, call.credential_key, known.identity_id, call.event_uid,
        row_number() OVER (
            PARTITION BY call.tenant_id, call.credential_key, known.identity_id
            ORDER BY call.event_time, call.event_uid
        ) AS place
    FROM calls AS call
    INNER JOIN identity_activity AS known
        ON call.tenant_id = known.tenant_id AND call.agent_id = known.name
        AND call.agent_issuer IS NOT DISTINCT FROM known.issuer
    INNER JOIN hosted ON known.identity_id = hosted.identity_id
    WHERE call.credential_key IS NOT NULL
        AND call.link_method IN ('T1', 'T2', 'T3') AND call.outcome <> 'denied'
),
uses AS (
    SELECT tenant_id, credential_key, identity_id, list_sort(list(event_uid)) AS event_uids
    FROM presented
    WHERE place <= $uses_max
    GROUP BY tenant_id, credential_key, identity_id
),
holders AS (
    SELECT held.tenant_id, held.credential_key, named.identity_id
    FROM credentials AS held
    INNER JOIN reg_names AS named
        ON coalesce(held.actor_id, held.client_id, held.subject_id) = named.name
        AND (
            named.issuer IS NULL OR coalesce(held.actor_issuer, held.issuer) IS NULL
            OR named.issuer = coalesce(held.actor_issuer, held.issuer)
        )
    UNION
    SELECT tenant_id, credential_key, identity_id FROM uses
),
excepted AS (
    SELECT DISTINCT identity_id, secret_id
    FROM reg_static_exceptions
    WHERE since <= $as_of AND until > $as_of
),
standing AS (
    SELECT
        held.tenant_id, hosted.identity_id, held.id AS held_id, held.kind AS held_kind, held.source AS held_at,
        held.scopes, held.last_used_at, coalesce(held.issued_at, held.first_seen) AS since, held.last_seen,
        list_concat(held.event_uids, coalesce(uses.event_uids, CAST([] AS VARCHAR[]))) AS event_uids
    FROM credentials AS held
    INNER JOIN holders
        ON held.tenant_id = holders.tenant_id AND held.credential_key = holders.credential_key
    INNER JOIN hosted ON holders.identity_id = hosted.identity_id
    LEFT JOIN uses
        ON held.tenant_id = uses.tenant_id AND held.credential_key = uses.credential_key
        AND hosted.identity_id = uses.identity_id
    LEFT JOIN excepted
        ON hosted.identity_id = excepted.identity_id
        AND (held.id = excepted.secret_id OR (excepted.secret_id IS NULL AND held.is_static))
    WHERE held.revoked_at IS NULL
        AND (held.expires_at IS NULL OR held.expires_at > $as_of)
        AND (
            (held.is_static AND NOT coalesce(hosted.static_secret_allowed, false)
                AND NOT coalesce(hosted.static_secret_exception_until > $as_of, false))
            OR (ends_with(lower(coalesce(held.token_type, '')), 'refresh_token')
                AND NOT coalesce(hosted.background_sync, false))
        )
        AND NOT coalesce(list_contains(hosted.approved_secrets, held.id), false)
        AND excepted.identity_id IS NULL
    UNION ALL
    SELECT
        secret.tenant_id, hosted.identity_id, secret.secret_id AS held_id, secret.secret_kind AS held_kind,
        coalesce(secret.store, secret.source) AS held_at, secret.scopes, secret.last_used_at,
        coalesce(secret.created_at, secret.first_seen) AS since, secret.last_seen, secret.event_uids
    FROM secrets AS secret
    INNER JOIN reg_names AS named
        ON secret.bound_identity_id = named.name
        AND (
            named.issuer IS NULL OR secret.bound_identity_issuer IS NULL
            OR named.issuer = secret.bound_identity_issuer
        )
    INNER JOIN hosted ON named.identity_id = hosted.identity_id
    LEFT JOIN excepted
        ON hosted.identity_id = excepted.identity_id
        AND (
            secret.secret_id = excepted.secret_id
            OR (excepted.secret_id IS NULL AND list_contains($static_kinds, secret.secret_kind))
        )
    WHERE secret.status = 'active'
        AND (
            (list_contains($static_kinds, secret.secret_kind) AND NOT coalesce(hosted.static_secret_allowed, false)
                AND NOT coalesce(hosted.static_secret_exception_until > $as_of, false))
            OR (secret.secret_kind = 'refresh_token' AND NOT coalesce(hosted.background_sync, false))
        )
        AND NOT coalesce(list_contains(hosted.approved_secrets, secret.secret_id), false)
        AND excepted.identity_id IS NULL
),
-- Access that a cloud lends to a vendor's account; it names the account with every call.
lent AS (
    SELECT event.tenant_id, event.name, event.issuer, event.account, event.event_time, event.event_uid
    FROM (
        SELECT tenant_id, agent_id AS name, agent_issuer AS issuer, ext['invokedByDelegate'] AS account, event_time,
            event_uid
        FROM tool_calls
        WHERE ext['invokedByDelegate'] IS NOT NULL AND outcome <> 'denied'
        UNION ALL
        SELECT tenant_id, coalesce(actor_id, client_id) AS name, coalesce(actor_issuer, credential_issuer) AS issuer,
            ext['invokedByDelegate'] AS account, event_time, event_uid
        FROM token_events
        WHERE ext['invokedByDelegate'] IS NOT NULL AND outcome = 'success'
    ) AS event
),
unlisted AS (
    SELECT
        lent.tenant_id, hosted.identity_id, lent.account, lent.event_time, lent.event_uid,
        row_number() OVER (
            PARTITION BY lent.tenant_id, hosted.identity_id ORDER BY lent.event_time, lent.event_uid
        ) AS place
    FROM lent
    INNER JOIN identity_activity AS known
        ON lent.tenant_id = known.tenant_id AND lent.name = known.name
        AND lent.issuer IS NOT DISTINCT FROM known.issuer
    INNER JOIN hosted ON known.identity_id = hosted.identity_id
    WHERE NOT coalesce(list_contains(hosted.vendor_accounts, lent.account), false)
),
placed_standing AS (
    SELECT *, row_number() OVER (PARTITION BY tenant_id, identity_id ORDER BY since, held_id) AS place
    FROM standing
),
gaps AS (
    SELECT
        tenants.tenant_id, hosted.identity_id, 'no review' AS gap, CAST(NULL AS VARCHAR[]) AS held,
        CAST(NULL AS VARCHAR[]) AS held_at, CAST(NULL AS VARCHAR[]) AS scopes, active.last_at AS last_used_at,
        coalesce(active.first_at, hosted.registered_at, hosted.status_since, date_trunc('day', $as_of))
            AS first_seen,
        coalesce(active.last_at, hosted.registered_at, hosted.status_since, date_trunc('day', $as_of))
            AS last_seen,
        coalesce(active.event_uids, CAST([] AS VARCHAR[])) AS event_uids
    FROM hosted
    CROSS JOIN tenants
    LEFT JOIN active
        ON tenants.tenant_id = active.tenant_id AND hosted.identity_id = active.identity_id
    WHERE hosted.vendor_review_id IS NULL
    UNION ALL
    SELECT
        tenant_id, identity_id, 'standing credential' AS gap,
        list_sort(list(DISTINCT held_kind || ' ' || held_id) FILTER (WHERE place <= $evidence_max)) AS held,
        list_sort(list(DISTINCT held_at)) AS held_at,
        list_sort(list_distinct(flatten(list(coalesce(scopes, CAST([] AS VARCHAR[])))))) AS scopes,
        max(last_used_at) AS last_used_at, min(since) AS first_seen, max(last_seen) AS last_seen,
        list_sort(list_distinct(flatten(list(event_uids) FILTER (WHERE place <= $evidence_max)))) AS event_uids
    FROM placed_standing
    GROUP BY tenant_id, identity_id
    UNION ALL
    SELECT
        tenant_id, identity_id, 'unknown account' AS gap,
        list_sort(list(DISTINCT account) FILTER (WHERE place <= $evidence_max)) AS held,
        CAST(NULL AS VARCHAR[]) AS held_at, CAST(NULL AS VARCHAR[]) AS scopes, max(event_time) AS last_used_at,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list(DISTINCT event_uid) FILTER (WHERE place <= $evidence_max)) AS event_uids
    FROM unlisted
    GROUP BY tenant_id, identity_id
)
SELECT
    gaps.tenant_id,
    gaps.identity_id,
    gaps.gap,
    gaps.identity_id AS entity,
    'The vendor-hosted agent ' || gaps.identity_id || CASE gaps.gap
        WHEN 'no review' THEN ' has no third-party review on record'
        WHEN 'unknown account' THEN ' was driven from an account that is not registered: '
            || array_to_string(gaps.held[1:3], ', ')
        ELSE ' holds a standing credential outside: ' || array_to_string(gaps.held[1:3], ', ')
    END AS title,
    hosted.environment,
    hosted.vendor,
    hosted.vendor_review_id,
    hosted.vendor_exception_until,
    gaps.held,
    gaps.held_at,
    gaps.scopes,
    gaps.last_used_at,
    gaps.first_seen,
    gaps.last_seen,
    gaps.event_uids
FROM gaps
INNER JOIN hosted ON gaps.identity_id = hosted.identity_id
