-- An identity that does nothing any more and whose credentials still work.
--
-- One row per identity, registered or not.  What it last did is its newest call, token request,
-- use or read of a secret, or the last use that a provider reports; where none of these is
-- known it is dormant only if calls were recorded all that time.  People are left out.
WITH named AS (
    SELECT name, min(identity_id) AS identity_id
    FROM reg_names
    GROUP BY name
    HAVING count(DISTINCT identity_id) = 1
),
people AS (
    SELECT principal AS name FROM reg_people
    UNION
    SELECT subject_id AS name FROM token_events WHERE subject_kind = 'human'
    UNION
    SELECT subject_id AS name FROM tool_calls WHERE subject_kind = 'human'
    UNION
    SELECT names.name FROM reg_names AS names
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
    WHERE identity.kind = 'human'
),
-- Who was listed together with it is listed again, and it is not: it is gone, though nobody said so.
listed AS (
    SELECT tenant_id, secret_id, max(event_time) AS listed_at, max(source) AS listed_by
    FROM secret_events
    WHERE op = 'inventory' AND snapshot_complete
    GROUP BY tenant_id, secret_id
),
listings AS (
    SELECT
        event.tenant_id, event.source, date_trunc('hour', event.event_time) AS listed_in,
        max(listed.listed_at) AS listed_again_at
    FROM secret_events AS event
    INNER JOIN listed ON event.tenant_id = listed.tenant_id AND event.secret_id = listed.secret_id
    WHERE event.op = 'inventory' AND event.snapshot_complete
    GROUP BY event.tenant_id, event.source, date_trunc('hour', event.event_time)
),
unlisted AS (
    SELECT listed.tenant_id, listed.secret_id
    FROM listed
    INNER JOIN secrets AS secret ON listed.tenant_id = secret.tenant_id AND listed.secret_id = secret.secret_id
    INNER JOIN listings
        ON listed.tenant_id = listings.tenant_id AND listed.listed_by = listings.source
        AND date_trunc('hour', listed.listed_at) = listings.listed_in
    WHERE epoch(listings.listed_again_at) - epoch(listed.listed_at) >= $relisted_s
        -- Used since, it is there.
        AND secret.last_seen < listings.listed_again_at
),
live AS (
    SELECT
        held.tenant_id, 'credential' AS held_as, held.credential_key AS held_key, held.id AS held_id,
        coalesce(held.actor_id, held.client_id, held.subject_id) AS holder, held.issuer, held.scopes,
        coalesce(held.issued_at, held.first_seen) AS made_at, held.last_used_at, held.environment,
        held.issued_at IS NOT NULL AS is_telling, held.event_uids
    FROM credentials AS held
    INNER JOIN rule_watermarks AS until ON held.tenant_id = until.tenant_id
    WHERE held.revoked_at IS NULL AND held.seen_issued
        AND (held.expires_at > until.watermark OR (held.never_expires AND held.expires_at IS NULL))
        AND NOT (coalesce(held.issue_op, 'issue') = 'delegate' AND held.token_type IS NULL)
    UNION ALL
    SELECT
        secret.tenant_id, 'secret' AS held_as, secret.secret_id AS held_key, secret.secret_id AS held_id,
        secret.bound_identity_id AS holder, CAST(NULL AS VARCHAR) AS issuer, secret.scopes,
        greatest(secret.created_at, secret.last_rotated_at) AS made_at, secret.last_used_at, secret.environment,
        secret.last_used_at IS NOT NULL OR coalesce(secret.snapshot_complete, false) AS is_telling,
        secret.event_uids
    FROM secrets AS secret
    INNER JOIN rule_watermarks AS until ON secret.tenant_id = until.tenant_id
    LEFT JOIN unlisted ON secret.tenant_id = unlisted.tenant_id AND secret.secret_id = unlisted.secret_id
    WHERE unlisted.secret_id IS NULL AND secret.status NOT IN ('revoked', 'deleted') AND (secret.expires_at IS NULL OR secret.expires_at > until.watermark)
        -- Known to exist, not only to have been used once.
        AND (secret.inventory_at IS NOT NULL OR secret.created_at IS NOT NULL)
),
held AS (
    SELECT live.*, coalesce(named.identity_id, live.holder) AS identity
    FROM live
    LEFT JOIN named ON live.holder = named.name
    LEFT JOIN people ON live.holder = people.name
    WHERE live.holder IS NOT NULL AND people.name IS NULL
),
-- Everything that shows somebody at work, by name; names are joined to identities afterwards.
at_work AS (
    SELECT tenant_id, agent_id AS name, true AS is_agent, max(event_time) AS at, arg_max(event_uid, event_time) AS event_uid
    FROM tool_calls
    GROUP BY tenant_id, agent_id
    UNION ALL
    SELECT tenant_id, actor_id AS name, false AS is_agent, max(event_time) AS at, arg_max(event_uid, event_time) AS event_uid
    FROM tool_calls
    GROUP BY tenant_id, actor_id
    UNION ALL
    SELECT tenant_id, subject_id AS name, false AS is_agent, max(event_time) AS at, arg_max(event_uid, event_time) AS event_uid
    FROM tool_calls
    GROUP BY tenant_id, subject_id
    UNION ALL
    SELECT tenant_id, actor_id AS name, false AS is_agent, max(event_time) AS at, arg_max(event_uid, event_time) AS event_uid
    FROM token_events
    WHERE op NOT IN ('revoke', 'consent_revoke')
    GROUP BY tenant_id, actor_id
    UNION ALL
    SELECT tenant_id, client_id AS name, false AS is_agent, max(event_time) AS at, arg_max(event_uid, event_time) AS event_uid
    FROM token_events
    WHERE op NOT IN ('revoke', 'consent_revoke')
    GROUP BY tenant_id, client_id
    UNION ALL
    SELECT tenant_id, subject_id AS name, coalesce(bool_or(subject_kind IN ('agent', 'agent_user')), false) AS is_agent,
        max(event_time) AS at, arg_max(event_uid, event_time) AS event_uid
    FROM token_events
    WHERE op NOT IN ('revoke', 'consent_revoke')
    GROUP BY tenant_id, subject_id
    UNION ALL
    SELECT tenant_id, accessed_by_id AS name, false AS is_agent, max(event_time) AS at, arg_max(event_uid, event_time) AS event_uid
    FROM secret_events
    GROUP BY tenant_id, accessed_by_id
    UNION ALL
    SELECT tenant_id, bound_identity_id AS name, false AS is_agent, max(event_time) AS at, arg_max(event_uid, event_time) AS event_uid
    FROM secret_events
    WHERE op IN ('use', 'read', 'renew')
    GROUP BY tenant_id, bound_identity_id
    UNION ALL
    SELECT tenant_id, bound_identity_id AS name, false AS is_agent, max(last_used_at) AS at, CAST(NULL AS VARCHAR) AS event_uid
    FROM secret_events
    WHERE last_used_at IS NOT NULL
    GROUP BY tenant_id, bound_identity_id
    UNION ALL
    SELECT held.tenant_id, held.holder AS name, false AS is_agent, max(held.last_used_at) AS at, CAST(NULL AS VARCHAR) AS event_uid
    FROM held
    WHERE held.last_used_at IS NOT NULL
    GROUP BY held.tenant_id, held.holder
    UNION ALL
    -- What somebody else made from its credential is a use of it as well.
    SELECT held.tenant_id, held.holder AS name, false AS is_agent, max(hop.hop_time) AS at, CAST(NULL AS VARCHAR) AS event_uid
    FROM held
    INNER JOIN hops AS hop ON held.tenant_id = hop.tenant_id AND held.held_key = hop.parent_key
    GROUP BY held.tenant_id, held.holder
    UNION ALL
    -- A key that calls name belongs to the secret of that id.
    SELECT held.tenant_id, held.holder AS name, false AS is_agent, max(shown.last_used_at) AS at, CAST(NULL AS VARCHAR) AS event_uid
    FROM held
    INNER JOIN credentials AS shown ON held.tenant_id = shown.tenant_id AND held.held_id = shown.id
    WHERE held.held_as = 'secret'
    GROUP BY held.tenant_id, held.holder
),
activity AS (
    SELECT
        at_work.tenant_id, coalesce(named.identity_id, at_work.name) AS identity,
        bool_or(at_work.is_agent) AS is_agent, max(at_work.at) AS last_active_at,
        arg_max(at_work.event_uid, at_work.at) FILTER (WHERE at_work.event_uid IS NOT NULL) AS event_uid
    FROM at_work
    LEFT JOIN named ON at_work.name = named.name
    WHERE at_work.name IS NOT NULL AND at_work.at IS NOT NULL
    GROUP BY at_work.tenant_id, coalesce(named.identity_id, at_work.name)
),
recorded AS (
    SELECT tenant_id, min(first_event_time) AS since
    FROM watermarks
    WHERE has_tool_calls
    GROUP BY tenant_id
),
rated AS (
    SELECT held.tenant_id, held.identity, max(catalogue.tier) AS tier
    FROM held
    CROSS JOIN unnest(held.scopes) AS item(scope)
    INNER JOIN reg_scope_tiers AS catalogue
        ON item.scope = catalogue.scope
        AND (catalogue.issuer IS NULL OR held.issuer IS NULL OR catalogue.issuer = held.issuer)
    GROUP BY held.tenant_id, held.identity
),
ranked AS (
    SELECT
        *, row_number() OVER (PARTITION BY tenant_id, identity ORDER BY made_at DESC, held_as, held_key) AS place
    FROM held
),
holders AS (
    SELECT
        tenant_id, identity,
        -- A key may stand in the data as a secret and as a credential.
        count(DISTINCT held_id) AS live_credentials,
        list_sort(list_distinct(list(held_id) FILTER (WHERE place <= $evidence_max))) AS credentials,
        bool_and(is_telling) AS is_telling,
        min(made_at) AS oldest_at, max(made_at) AS newest_at,
        bool_and(made_at IS NOT NULL) AS has_dates,
        max(environment) AS environment,
        flatten(list(event_uids[1:2]) FILTER (WHERE place <= $evidence_max)) AS event_uids
    FROM ranked
    GROUP BY tenant_id, identity
),
judged AS (
    SELECT
        holders.*, until.watermark, registered.identity_id, registered.vendor_hosted, registered.kind,
        activity.last_active_at, activity.event_uid,
        coalesce(
            activity.last_active_at,
            CASE WHEN holders.is_telling AND holders.has_dates AND recorded.since IS NOT NULL
                THEN greatest(holders.newest_at, recorded.since, registered.registered_at) END
        ) AS quiet_since,
        86400 * CASE
            WHEN registered.kind IN ('agent', 'agent_user') THEN $dormant_agent_d
            WHEN registered.identity_id IS NULL AND coalesce(activity.is_agent, false) THEN $dormant_agent_d
            ELSE $dormant_d
        END AS limit_s
    FROM holders
    INNER JOIN rule_watermarks AS until ON holders.tenant_id = until.tenant_id
    LEFT JOIN reg_identities AS registered ON holders.identity = registered.identity_id
    LEFT JOIN activity ON holders.tenant_id = activity.tenant_id AND holders.identity = activity.identity
    LEFT JOIN recorded ON holders.tenant_id = recorded.tenant_id
    WHERE NOT (coalesce(registered.seasonal, false)
        AND (registered.review_due_at IS NULL OR registered.review_due_at > until.watermark))
)
SELECT
    judged.tenant_id,
    judged.identity AS holder,
    judged.identity AS entity,
    judged.identity || ' has done nothing for '
        || CAST(CAST(floor((epoch(judged.watermark) - epoch(judged.quiet_since)) / 86400) AS BIGINT) AS VARCHAR)
        || ' days and holds ' || CAST(judged.live_credentials AS VARCHAR) || ' working credential'
        || CASE WHEN judged.live_credentials = 1 THEN '' ELSE 's' END AS title,
    CASE WHEN rated.tier >= 3 THEN 3 ELSE 2 END AS severity,
    judged.identity_id,
    judged.vendor_hosted,
    judged.environment,
    judged.kind,
    judged.last_active_at,
    judged.live_credentials,
    judged.credentials,
    judged.oldest_at AS oldest_credential_at,
    CAST(floor((epoch(judged.watermark) - epoch(judged.quiet_since)) / 86400) AS BIGINT) AS dormant_d,
    CAST(judged.limit_s / 86400 AS BIGINT) AS limit_d,
    coalesce(rated.tier, 0) AS tier,
    judged.quiet_since + judged.limit_s * INTERVAL 1 SECOND AS first_seen,
    judged.quiet_since + judged.limit_s * INTERVAL 1 SECOND AS last_seen,
    list_sort(list_distinct(list_filter(
        list_append(judged.event_uids, judged.event_uid), lambda x: x IS NOT NULL
    ))) AS event_uids
FROM judged
LEFT JOIN rated ON judged.tenant_id = rated.tenant_id AND judged.identity = rated.identity
WHERE epoch(judged.watermark) - epoch(judged.quiet_since) > judged.limit_s
