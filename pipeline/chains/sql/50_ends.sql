-- Where a chain ends whose top is this credential (domain reference 4.5): a true root, a
-- known border, or a record that is missing.  A chain that merely stops is never complete.
CREATE OR REPLACE TEMP TABLE ends AS
WITH tops AS (
    SELECT
        cred.*,
        reach.issuer IS NOT NULL AS issuer_reaches_us,
        reach.onboarded_at,
        coalesce(reach.watermark, mention.watermark) AS watermark,
        -- A foreign domain whose issuances do reach us is no border.
        coalesce(rules.foreign_without_logs, false) OR (coalesce(edges.known, false) AND reach.issuer IS NULL)
            -- One issuer may serve many domains: who took it is of one that we trust.
            OR coalesce(taker.known, false) AS is_foreign,
        coalesce(known.registered, false) OR registered_id.credential_key IS NOT NULL OR coalesce(user_agent.registered, false)
            OR coalesce(subject.registered, false) AS is_registered,
        NOT cred.seen_issued AND cred.kind = 'access_key_id' AND starts_with(cred.id, 'ASIA') AS is_temporary_key,
        self_named.child_key IS NOT NULL AS names_itself,
        below.parent_key IS NOT NULL AS is_parent,
        coalesce(contains(replace(lower(cred.grant_type), '_', ''), 'webidentity'), false) AND cred.subject_issuer IS NOT NULL
            AND provider.issuer IS NULL AS is_of_silent_provider
    FROM cred
    LEFT JOIN issuer_reach AS reach
        ON reach.tenant_id = cred.tenant_id AND reach.issuer IS NOT DISTINCT FROM cred.issuer AND reach.kind = cred.kind
    LEFT JOIN watermarks_now AS mention ON mention.tenant_id = cred.tenant_id AND mention.source = cred.source
    LEFT JOIN reg_issuers AS rules ON rules.issuer = cred.issuer
    LEFT JOIN (SELECT issuer, true AS known FROM reg_trust_edges WHERE issuer IS NOT NULL GROUP BY issuer) AS edges
        ON edges.issuer = cred.issuer
    LEFT JOIN (SELECT from_domain, true AS known FROM reg_trust_edges WHERE from_domain IS NOT NULL GROUP BY from_domain) AS taker
        ON taker.from_domain = cred.from_trust_domain
    LEFT JOIN registered_names AS known ON known.name = cred.acting
    LEFT JOIN registered_names AS user_agent ON user_agent.name = cred.user_agent_id
    LEFT JOIN registered_names AS subject ON subject.name = cred.subject_id
    LEFT JOIN (
        SELECT DISTINCT cred.credential_key
        FROM cred
        JOIN reg_credential_ids AS known ON known.kind = cred.kind AND known.id = cred.id
            AND (known.issuer IS NULL OR known.issuer = cred.issuer)
    ) AS registered_id ON registered_id.credential_key = cred.credential_key
    LEFT JOIN (SELECT DISTINCT tenant_id, issuer FROM issuer_reach) AS provider
        ON provider.tenant_id = cred.tenant_id AND provider.issuer = cred.subject_issuer
    LEFT JOIN (SELECT DISTINCT child_key FROM explicit_parents WHERE child_key = parent_key AND role <> 'actor') AS self_named
        ON self_named.child_key = cred.credential_key
    LEFT JOIN (SELECT DISTINCT parent_key FROM links) AS below ON below.parent_key = cred.credential_key
    WHERE cred.credential_key NOT IN (SELECT child_key FROM links)
),
judged AS (
    SELECT *,
        is_interactive OR auth_time IS NOT NULL
            OR (subject_kind = 'human' AND grant_type IS NULL AND issue_op = 'issue'
                AND observer IN ('authz_server', 'idp')) AS is_human_login,
        coalesce(contains(lower(grant_type), 'saml'), false) AS is_federated,
        -- Nobody can say yet that a record is missing.
        coalesce(watermark, first_seen) < first_seen AS is_open,
        CASE
            WHEN seen_issued AND derives AND NOT by_service AND NOT superseded(is_interactive, issue_op)
                AND NOT coalesce(contains(lower(grant_type), 'saml'), false) THEN 'parent_missing'
            -- What only failures name need not exist.
            WHEN NOT seen_issued AND (has_events OR user_agent_id IS NOT NULL OR is_parent)
                AND (is_temporary_key OR (issuer_reaches_us AND NOT is_static)) THEN 'issue_missing'
        END AS lacks
    FROM tops
),
-- The issuance, or where its time is unknown the hour before the first use, falls into a
-- silence of a source that tells of this issuer.
in_outage AS (
    SELECT DISTINCT judged.credential_key
    FROM judged
    JOIN issuer_sources AS told
        ON told.tenant_id = judged.tenant_id AND told.kind = judged.kind AND told.issuer IS NOT DISTINCT FROM judged.issuer
    JOIN source_gaps AS hole ON hole.tenant_id = told.tenant_id AND hole.source = told.source AND hole.is_outage
    WHERE judged.lacks = 'issue_missing'
        AND hole.gap_from < coalesce(judged.issued_at, judged.first_seen)
        AND coalesce(hole.gap_to > coalesce(judged.issued_at, judged.first_seen - INTERVAL 1 HOUR), true)
)
SELECT
    credential_key, names_itself,
    CASE
        WHEN names_itself THEN 'broken'
        WHEN lacks IS NOT NULL AND is_foreign THEN 'boundary'
        -- JWT times are whole seconds, hence the second of slack.
        WHEN lacks IS NOT NULL AND issued_at < onboarded_at - INTERVAL 1 SECOND THEN 'retention_truncated'
        WHEN lacks IS NOT NULL AND is_open THEN 'pending'
        WHEN lacks IS NOT NULL THEN 'broken'
        WHEN is_federated OR (is_human_login AND subject_kind IS DISTINCT FROM 'agent_user') AND seen_issued
            AND coalesce(subject_kind, 'human') IN ('human', 'unknown') THEN 'root_human'
        WHEN NOT seen_issued AND is_foreign THEN 'boundary'
        WHEN NOT seen_issued AND issued_at < onboarded_at - INTERVAL 1 SECOND THEN 'retention_truncated'
        WHEN is_registered AND (is_static OR (seen_issued AND (
            coalesce(contains(lower(grant_type), 'client_credentials'), false) OR subject_id = client_id OR by_service
            OR coalesce(subject_kind IN ('workload', 'service_account', 'client', 'agent', 'agent_user'), false)
            OR starts_with(coalesce(subject_id, ''), 'spiffe://') OR issue_op = 'delegate')))
            THEN 'root_nonhuman'
        ELSE 'unknown_root'
    END AS end_kind,
    CASE
        WHEN is_federated THEN 'human_federated'
        WHEN is_human_login AND seen_issued AND coalesce(subject_kind, 'human') IN ('human', 'unknown') THEN 'human_interactive'
        WHEN is_static THEN 'static_secret'
        WHEN is_foreign THEN 'foreign_domain'
        WHEN coalesce(contains(lower(grant_type), 'client_credentials'), false) OR (seen_issued AND subject_id = client_id) THEN 'client_credentials'
        WHEN by_service OR starts_with(coalesce(subject_id, ''), 'spiffe://')
            OR (seen_issued AND coalesce(subject_kind IN ('workload', 'service_account'), false)) THEN 'workload_attested'
        ELSE 'unknown'
    END AS root_kind,
    CASE
        WHEN names_itself THEN 'missing_parent_id'
        -- Used before the issuer's first record reached us.  A quiet issuer may have been
        -- heard for a while before it spoke, hence the hour.
        WHEN lacks = 'issue_missing' AND issued_at IS NULL AND first_seen < onboarded_at - INTERVAL 1 HOUR THEN 'source_not_onboarded'
        -- AWS makes the keys of its console and of services that act for a caller, and logs none.
        WHEN lacks = 'issue_missing' AND is_lent THEN 'source_not_onboarded'
        -- A server of ours lets keys of AWS in, and AWS tells us nothing at all.
        WHEN lacks = 'issue_missing' AND is_temporary_key AND NOT issuer_reaches_us AND observer = 'resource_server'
            THEN 'source_not_onboarded'
        WHEN lacks = 'issue_missing' AND in_outage.credential_key IS NOT NULL THEN 'source_outage'
        WHEN lacks = 'issue_missing' THEN 'missing_issue_event'
        WHEN lacks = 'parent_missing' AND act_malformed_reason IS NOT NULL THEN 'malformed_act'
        -- There is, or was, an actor whom the record does not name.
        WHEN lacks = 'parent_missing' AND (len(list_filter(act_chain, lambda one: one.subject IS NULL)) > 0
            OR (actor_unknown AND coalesce(actor_convention IN ('act', 'impersonation'), false))) THEN 'missing_actor'
        -- A cloud names the provider of the token, and that provider tells us nothing at all.
        WHEN lacks = 'parent_missing' AND (is_of_silent_provider OR is_nameless) THEN 'source_not_onboarded'
        WHEN lacks = 'parent_missing' THEN 'missing_parent_id'
    END AS gap_kind
FROM judged
LEFT JOIN in_outage USING (credential_key)
