-- An agent acted while nobody's valid sign-off covered its class as it stands.
--
-- One row per agent and class.  Sign-offs and their dates are held against the time of each
-- act.  A class that nobody ever signed is reported, with less weight where no sign-off is on
-- record for any class: a file that went missing must not switch the rule off.
WITH versions AS (
    SELECT class, version, scope_hash, risk_tier, signoff_roles, valid_from, valid_to
    FROM reg_classes_as_of
),
signed AS (
    SELECT
        class, version, scope_hash, lower(role) AS role, approver, signed_at,
        expires_at, least(expires_at, signed_at + to_days(CAST($valid_d AS INTEGER))) AS normal_until,
        least(expires_at, signed_at + to_days(CAST($valid_high_d AS INTEGER))) AS high_until
    FROM reg_signoffs
),
-- Between two of these moments nothing changes for a class.
moments AS (
    SELECT class, signed_at AS since FROM signed
    UNION
    SELECT class, normal_until AS since FROM signed
    UNION
    SELECT class, high_until AS since FROM signed
    UNION
    SELECT class, valid_from AS since FROM versions
),
spans AS (
    SELECT class, since, lead(since) OVER (PARTITION BY class ORDER BY since) AS until
    FROM moments
),
tiers AS (
    SELECT 'normal' AS risk_tier
    UNION ALL
    SELECT 'high' AS risk_tier
),
fitting AS (
    SELECT
        signed.*, version.valid_from,
        -- 3.2 is a small change of 3; what it may do is in the hash.
        (
            signed.version IS NULL OR version.version IS NULL OR signed.version = version.version
            OR ($minor_covered AND split_part(signed.version, '.', 1) = split_part(version.version, '.', 1))
        )
        -- A hash of another form cannot be compared: it says nothing.
        AND (
            signed.scope_hash IS NULL OR length(signed.scope_hash) <> length(version.scope_hash)
            OR lower(signed.scope_hash) = version.scope_hash
        ) AS is_fitting
    FROM signed
    INNER JOIN versions AS version ON signed.class = version.class
),
judged AS (
    SELECT
        span.class, span.since, coalesce(span.until, TIMESTAMPTZ '9999-12-31 00:00:00+00') AS until,
        tiers.risk_tier, version.version, version.scope_hash,
        version.signoff_roles,
        count(signed.class) FILTER (
            WHERE signed.signed_at <= span.since
                AND CASE WHEN tiers.risk_tier = 'high' THEN signed.high_until ELSE signed.normal_until END
                    > span.since
        ) AS in_force,
        count(signed.class) FILTER (
            WHERE CASE WHEN tiers.risk_tier = 'high' THEN signed.high_until ELSE signed.normal_until END
                <= span.since
        ) AS ended,
        count(signed.class) AS on_record,
        list_distinct(list(coalesce(signed.role, '')) FILTER (
            WHERE signed.signed_at <= span.since
                AND CASE WHEN tiers.risk_tier = 'high' THEN signed.high_until ELSE signed.normal_until END
                    > span.since
                AND signed.is_fitting
        )) AS fitting_roles,
        count(signed.class) FILTER (WHERE signed.is_fitting AND signed.signed_at > span.since) AS fits_later,
        max(signed.signed_at) FILTER (WHERE signed.signed_at <= span.since) AS last_signed_at
    FROM spans AS span
    INNER JOIN versions AS version
        ON span.class = version.class AND span.since >= version.valid_from AND span.since < version.valid_to
    CROSS JOIN tiers
    LEFT JOIN fitting AS signed ON span.class = signed.class AND version.valid_from = signed.valid_from
    GROUP BY span.class, span.since, span.until, tiers.risk_tier, version.risk_tier, version.version,
        version.scope_hash, version.signoff_roles
    -- A class of high risk makes all its agents so.
    HAVING tiers.risk_tier = 'high' OR coalesce(version.risk_tier, 'normal') <> 'high'
),
uncovered AS (
    SELECT
        class, since, until, risk_tier, version, scope_hash, last_signed_at,
        list_sort(list_filter(
            coalesce(signoff_roles, CAST([] AS VARCHAR[])),
            lambda x: NOT list_contains(coalesce(fitting_roles, CAST([] AS VARCHAR[])), lower(x))
        )) AS missing_roles,
        CASE
            WHEN array_length(fitting_roles) > 0 THEN 'role_missing'
            WHEN in_force > 0 THEN 'stale'
            WHEN ended > 0 THEN 'expired'
            WHEN on_record > 0 THEN 'signed_later'
            ELSE 'never_signed'
        END AS problem
    FROM judged
    -- Signed as it stands now, and before that as it stood then: the class has moved on since.
    WHERE (coalesce(array_length(fitting_roles), 0) = 0 AND NOT (in_force > 0 AND fits_later > 0))
        OR array_length(list_filter(
            coalesce(signoff_roles, CAST([] AS VARCHAR[])),
            lambda x: NOT list_contains(coalesce(fitting_roles, CAST([] AS VARCHAR[])), lower(x))
        )) > 0 AND array_length(fitting_roles) > 0
),
-- Which agent was of which class when, and not covered then.
lapses AS (
    SELECT
        identity.identity_id, identity.class, identity.environment, identity.vendor_hosted,
        greatest(identity.valid_from, uncovered.since) AS since,
        least(identity.valid_to, uncovered.until) AS until,
        uncovered.version, uncovered.scope_hash, uncovered.missing_roles, uncovered.problem,
        uncovered.last_signed_at
    FROM reg_identities_as_of AS identity
    INNER JOIN uncovered
        ON identity.class = uncovered.class
        AND identity.valid_from < uncovered.until AND uncovered.since < identity.valid_to
    INNER JOIN versions
        ON identity.class = versions.class
        AND uncovered.since >= versions.valid_from AND uncovered.since < versions.valid_to
    WHERE identity.status = 'active' AND identity.kind <> 'human'
        AND uncovered.risk_tier = CASE
            WHEN identity.risk_tier = 'high' OR versions.risk_tier = 'high' THEN 'high' ELSE 'normal'
        END
),
names AS (
    SELECT DISTINCT named.identity_id, named.issuer, named.name
    FROM reg_names AS named
    INNER JOIN lapses ON named.identity_id = lapses.identity_id
),
acts AS (
    SELECT tenant_id, agent_id AS name, agent_issuer AS issuer, event_time, event_uid,
        tool_name AS did, observer
    FROM tool_calls
    WHERE agent_id IN (SELECT name FROM names) AND outcome <> 'denied'
    UNION ALL
    SELECT tenant_id, coalesce(actor_id, client_id) AS name,
        CASE WHEN actor_id IS NULL THEN credential_issuer ELSE actor_issuer END AS issuer,
        event_time, event_uid, 'token ' || op AS did, observer
    FROM token_events
    WHERE outcome = 'success' AND op IN ('issue', 'exchange', 'assume', 'refresh', 'use', 'delegate')
        AND coalesce(actor_id, client_id) IN (SELECT name FROM names)
),
seen AS (
    SELECT tenant_id, name, issuer FROM acts GROUP BY tenant_id, name, issuer
),
known AS (
    SELECT
        seen.tenant_id, seen.name, seen.issuer,
        coalesce(min(names.identity_id) FILTER (WHERE names.issuer = seen.issuer), min(names.identity_id))
            AS identity_id
    FROM seen
    INNER JOIN names
        ON seen.name = names.name
        AND (names.issuer IS NULL OR seen.issuer IS NULL OR names.issuer = seen.issuer)
    GROUP BY seen.tenant_id, seen.name, seen.issuer
),
against AS (
    SELECT
        acts.tenant_id, acts.event_uid, acts.event_time, acts.did, lapses.identity_id, lapses.class,
        lapses.problem, lapses.version, lapses.scope_hash, lapses.missing_roles, lapses.last_signed_at,
        lapses.environment, lapses.vendor_hosted,
        row_number() OVER (
            PARTITION BY acts.tenant_id, lapses.identity_id, lapses.class
            ORDER BY acts.event_time DESC, acts.event_uid
        ) AS place
    FROM acts
    INNER JOIN known
        ON acts.tenant_id = known.tenant_id AND acts.name = known.name
        AND acts.issuer IS NOT DISTINCT FROM known.issuer
    INNER JOIN lapses
        ON known.identity_id = lapses.identity_id
        AND acts.event_time >= lapses.since AND acts.event_time < lapses.until
),
found AS (
    SELECT
        tenant_id, identity_id, class,
        max(problem) FILTER (WHERE place = 1) AS problem,
        max(version) FILTER (WHERE place = 1) AS version,
        max(scope_hash) FILTER (WHERE place = 1) AS scope_hash,
        max(missing_roles) FILTER (WHERE place = 1) AS missing_roles,
        max(last_signed_at) FILTER (WHERE place = 1) AS last_signed_at,
        max(environment) FILTER (WHERE place = 1) AS environment,
        bool_or(coalesce(vendor_hosted, false)) AS vendor_hosted,
        count(*) AS acts,
        list_sort(list_distinct(list(did) FILTER (WHERE place <= $evidence_max))) AS did,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list_distinct(list(event_uid) FILTER (WHERE place <= $evidence_max))) AS event_uids
    FROM against
    GROUP BY tenant_id, identity_id, class
)
SELECT
    found.tenant_id,
    found.identity_id,
    found.class AS agent_class,
    found.identity_id AS entity,
    found.identity_id || ' acted while its class ' || found.class || CASE found.problem
        WHEN 'role_missing' THEN ' lacked the signature of ' || array_to_string(found.missing_roles, ', ')
        WHEN 'stale' THEN ' was signed off only as another version or with other limits'
        WHEN 'expired' THEN ' had only an expired sign-off'
        WHEN 'signed_later' THEN ' was not signed off yet'
        ELSE ' was never signed off'
    END AS title,
    CASE
        -- Made up for since.
        WHEN found.problem = 'signed_later' THEN 2
        WHEN found.problem = 'never_signed' AND (SELECT count(*) FROM reg_signoffs) = 0 THEN 2
        ELSE 3
    END AS severity,
    found.environment,
    found.vendor_hosted,
    found.problem,
    found.version AS class_version,
    found.scope_hash,
    found.missing_roles,
    found.last_signed_at,
    found.acts,
    found.did,
    found.first_seen,
    found.last_seen,
    found.event_uids
FROM found
