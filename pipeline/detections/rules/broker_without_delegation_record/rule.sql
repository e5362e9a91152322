-- A broker acts for a business unit without an explicit delegation record that covers it, or
-- uses one token for two units.
--
-- One row per identity and unit, or token.  A broker is registered as one, or acts for units
-- beyond its own within a day.  A record must name this delegate, the unit, the principal and
-- the scopes, and be in force; it may stand on the call, its credential or one above that.
WITH names AS (
    SELECT seen.tenant_id, seen.agent_id, seen.agent_issuer,
        coalesce(min(named.identity_id) FILTER (WHERE named.issuer = seen.agent_issuer), min(named.identity_id))
            AS identity_id
    FROM (
        SELECT tenant_id, agent_id, agent_issuer FROM tool_calls GROUP BY tenant_id, agent_id, agent_issuer
        UNION
        SELECT tenant_id, coalesce(actor_id, client_id) AS agent_id, actor_issuer AS agent_issuer
        FROM credentials
        WHERE coalesce(actor_id, client_id) IS NOT NULL
    ) AS seen
    INNER JOIN reg_names AS named
        ON seen.agent_id = named.name
        AND (named.issuer IS NULL OR seen.agent_issuer IS NULL OR named.issuer = seen.agent_issuer)
    GROUP BY seen.tenant_id, seen.agent_id, seen.agent_issuer
    HAVING coalesce(
        nullif(count(DISTINCT named.identity_id) FILTER (WHERE named.issuer = seen.agent_issuer), 0),
        count(DISTINCT named.identity_id)
    ) = 1
),
-- Whoever is registered to act for another agent acts for that one's units.
parent_units AS (
    SELECT DISTINCT child.identity_id, item.unit
    FROM reg_identities AS child
    CROSS JOIN unnest(list_concat(
        coalesce(child.delegate_for, CAST([] AS VARCHAR[])), coalesce(child.allowed_parents, CAST([] AS VARCHAR[]))
    )) AS parent_of(parent_id)
    INNER JOIN reg_identities AS parent ON parent_of.parent_id = parent.identity_id
    CROSS JOIN unnest(parent.business_units) AS item(unit)
),
served AS (
    SELECT names.tenant_id, names.identity_id, call.business_unit AS unit
    FROM tool_calls AS call
    INNER JOIN names
        ON call.tenant_id = names.tenant_id AND call.agent_id = names.agent_id
        AND call.agent_issuer IS NOT DISTINCT FROM names.agent_issuer
    WHERE call.business_unit IS NOT NULL
    GROUP BY names.tenant_id, names.identity_id, call.business_unit
    UNION
    SELECT names.tenant_id, names.identity_id, held.business_unit AS unit
    FROM credentials AS held
    INNER JOIN names
        ON held.tenant_id = names.tenant_id AND coalesce(held.actor_id, held.client_id) = names.agent_id
        AND held.actor_issuer IS NOT DISTINCT FROM names.agent_issuer
    WHERE held.business_unit IS NOT NULL
        -- A token of its own shows no other unit.
        AND coalesce(held.subject_id <> held.client_id, held.subject_id <> held.actor_id, false)
),
-- Only who is a broker, or was seen for two units, not all its own, is looked at call by call.
several AS (
    SELECT names.tenant_id, names.identity_id
    FROM names
    INNER JOIN reg_identities_as_of AS identity ON names.identity_id = identity.identity_id
    WHERE identity.is_broker
    UNION
    SELECT served.tenant_id, served.identity_id
    FROM served
    INNER JOIN reg_identities_as_of AS identity ON served.identity_id = identity.identity_id
    LEFT JOIN parent_units
        ON served.identity_id = parent_units.identity_id AND served.unit = parent_units.unit
    GROUP BY served.tenant_id, served.identity_id
    HAVING min(served.unit) <> max(served.unit)
        AND bool_or(
            parent_units.unit IS NULL
            AND NOT coalesce(list_contains(identity.business_units, served.unit), false)
            AND NOT coalesce(list_contains(identity.shared_units, served.unit), false)
        )
),
concerned AS (
    SELECT names.tenant_id, names.agent_id, names.agent_issuer, names.identity_id
    FROM names
    INNER JOIN several
        ON names.tenant_id = several.tenant_id AND names.identity_id = several.identity_id
),
acts AS (
    SELECT
        call.tenant_id, names.identity_id, call.event_uid, call.event_time, call.observer, call.environment,
        'call' AS act, call.tool_name AS did, call.action_class, call.resource_sensitivity,
        coalesce(call.business_unit, held.business_unit) AS unit,
        call.business_unit IS NOT NULL OR held.business_unit IS NOT NULL AS has_unit,
        call.subject_id, call.subject_issuer, call.root_principal, call.credential_key, call.credential_path,
        call.delegation_record_id, call.required_scopes AS scopes,
        held.business_unit AS token_unit, call.business_unit AS call_unit, true AS for_another,
        call.link_method IN ('T1', 'T2', 'T3') AND call.link_confidence >= $link_confidence_min AS names_token
    FROM calls AS call
    INNER JOIN concerned AS names
        ON call.tenant_id = names.tenant_id AND call.agent_id = names.agent_id
        AND call.agent_issuer IS NOT DISTINCT FROM names.agent_issuer
    LEFT JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE call.agent_id IN (SELECT agent_id FROM concerned) AND call.outcome <> 'denied'
    UNION ALL
    SELECT
        held.tenant_id, names.identity_id, held.event_uids[1] AS event_uid,
        coalesce(held.issued_at, held.first_seen) AS event_time, held.observer, held.environment,
        'token' AS act, 'token ' || coalesce(held.issue_op, 'issue') AS did,
        CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity,
        held.business_unit AS unit, true AS has_unit,
        held.subject_id, held.subject_issuer, chain.root_principal, held.credential_key, chain.credential_path,
        held.delegation_record_id, CASE WHEN held.scope_known THEN held.scopes END AS scopes,
        held.business_unit AS token_unit, CAST(NULL AS VARCHAR) AS call_unit,
        coalesce(held.subject_id <> held.client_id, held.subject_id <> held.actor_id, false) AS for_another,
        true AS names_token
    FROM credentials AS held
    INNER JOIN concerned AS names
        ON held.tenant_id = names.tenant_id AND coalesce(held.actor_id, held.client_id) = names.agent_id
        AND held.actor_issuer IS NOT DISTINCT FROM names.agent_issuer
    LEFT JOIN chains AS chain
        ON held.tenant_id = chain.tenant_id AND held.credential_key = chain.credential_key
    WHERE held.business_unit IS NOT NULL AND held.seen_issued
),
-- As the registry stood at that time; units that it shares need no record of their own.
judged AS (
    SELECT
        acts.*, identity.is_broker, identity.vendor_hosted,
        CASE WHEN identity.is_broker THEN false
            ELSE coalesce(list_contains(identity.business_units, acts.unit), false)
                OR parent_units.unit IS NOT NULL
        END AS is_own_unit
    FROM acts
    INNER JOIN reg_identities_as_of AS identity
        ON acts.identity_id = identity.identity_id
        AND acts.event_time >= identity.valid_from AND acts.event_time < identity.valid_to
    LEFT JOIN parent_units
        ON acts.identity_id = parent_units.identity_id AND acts.unit = parent_units.unit
    WHERE NOT coalesce(identity.pass_through, false)
        -- A token of its own, for nobody, shows no other unit unless it is a broker's.
        AND (acts.act = 'call' OR identity.is_broker OR acts.for_another)
        AND NOT coalesce(list_contains(identity.shared_units, acts.unit), false)
        -- A broker's own housekeeping is done for nobody.
        AND (acts.has_unit OR (
            identity.is_broker
            AND acts.subject_id IS NOT NULL AND coalesce(acts.subject_id <> acts.identity_id, true)
        ))
),
in_order AS (
    SELECT
        *,
        lag(unit) OVER in_time AS unit_before,
        lag(event_time) OVER in_time AS time_before,
        lead(unit) OVER in_time AS unit_after,
        lead(event_time) OVER in_time AS time_after
    FROM judged
    WHERE unit IS NOT NULL
    WINDOW in_time AS (PARTITION BY tenant_id, identity_id ORDER BY event_time, unit, event_uid)
),
-- Two units within a day: somewhere between lie two neighbours that differ.
behaving AS (
    SELECT tenant_id, identity_id
    FROM in_order
    WHERE (unit <> unit_before AND epoch(event_time) - epoch(time_before) < $window_s)
        OR (unit <> unit_after AND epoch(time_after) - epoch(event_time) < $window_s)
    GROUP BY tenant_id, identity_id
),
-- Records on the call itself, or on a credential of its chain.
ways AS (
    SELECT DISTINCT judged.tenant_id, judged.credential_key, above.delegation_record_id
    FROM (
        SELECT DISTINCT tenant_id, credential_key, credential_path
        FROM judged
        WHERE credential_key IS NOT NULL
    ) AS judged
    CROSS JOIN unnest(judged.credential_path) AS step(credential_key)
    INNER JOIN credentials AS above
        ON judged.tenant_id = above.tenant_id AND step.credential_key = above.credential_key
    WHERE above.delegation_record_id IS NOT NULL
),
claims AS (
    SELECT tenant_id, event_uid, act, identity_id, event_time, unit, subject_id, root_principal, scopes,
        delegation_record_id
    FROM judged
    WHERE delegation_record_id IS NOT NULL
    UNION
    SELECT judged.tenant_id, judged.event_uid, judged.act, judged.identity_id, judged.event_time, judged.unit,
        judged.subject_id, judged.root_principal, judged.scopes, ways.delegation_record_id
    FROM judged
    INNER JOIN ways ON judged.tenant_id = ways.tenant_id AND judged.credential_key = ways.credential_key
),
principals AS (
    SELECT record.id, record.principal AS name FROM reg_delegation_records AS record
    UNION
    SELECT record.id, member.member AS name
    FROM reg_delegation_records AS record
    INNER JOIN reg_group_members AS member ON record.principal = member.group_name
    UNION
    SELECT record.id, other.name
    FROM reg_delegation_records AS record
    INNER JOIN reg_names AS one ON record.principal = one.name
    INNER JOIN reg_names AS other ON one.identity_id = other.identity_id
    UNION
    SELECT record.id, mapped.to_subject AS name
    FROM reg_delegation_records AS record
    INNER JOIN reg_identity_maps AS mapped ON record.principal = mapped.from_subject
    UNION
    SELECT record.id, mapped.from_subject AS name
    FROM reg_delegation_records AS record
    INNER JOIN reg_identity_maps AS mapped ON record.principal = mapped.to_subject
),
covered AS (
    SELECT DISTINCT claims.tenant_id, claims.event_uid, claims.act
    FROM claims
    INNER JOIN reg_delegation_records AS record
        ON claims.delegation_record_id = record.id AND claims.identity_id = record.delegate
    LEFT JOIN principals
        ON record.id = principals.id
        AND (principals.name = claims.subject_id OR principals.name = claims.root_principal)
    WHERE coalesce(record.status, 'active') = 'active'
        AND (record.not_before IS NULL OR claims.event_time >= record.not_before)
        AND (record.not_after IS NULL OR claims.event_time < record.not_after)
        AND (record.business_unit IS NULL OR claims.unit IS NULL OR record.business_unit = claims.unit)
        AND (principals.id IS NOT NULL OR coalesce(claims.subject_id, claims.root_principal) IS NULL)
        AND (record.scopes IS NULL OR coalesce(array_length(list_filter(
            claims.scopes,
            lambda x: NOT list_contains(record.scopes, x) AND coalesce(array_length(list_filter(
                record.scopes,
                lambda y: ends_with(y, '*') AND starts_with(x, left(y, length(y) - 1))
            )), 0) = 0
        )), 0) = 0)
    UNION
    -- Where the registry holds no records at all, one that is named cannot be looked up.
    SELECT claims.tenant_id, claims.event_uid, claims.act
    FROM claims
    WHERE NOT EXISTS (SELECT 1 FROM reg_delegation_records)
),
against AS (
    SELECT
        judged.tenant_id, judged.identity_id, 'no_record' AS variant, coalesce(judged.unit, '(unknown)') AS served,
        judged.unit, judged.event_uid, judged.event_time, judged.observer, judged.environment, judged.did,
        judged.action_class, judged.resource_sensitivity, judged.vendor_hosted, judged.subject_id,
        judged.credential_key,
        judged.delegation_record_id
    FROM judged
    LEFT JOIN covered
        ON judged.tenant_id = covered.tenant_id AND judged.event_uid = covered.event_uid
        AND judged.act = covered.act
    LEFT JOIN behaving
        ON judged.tenant_id = behaving.tenant_id AND judged.identity_id = behaving.identity_id
    WHERE covered.event_uid IS NULL AND NOT judged.is_own_unit
        AND (judged.is_broker OR behaving.identity_id IS NOT NULL)
    UNION ALL
    SELECT
        one.tenant_id, one.identity_id, 'one_token' AS variant, one.credential_key AS served,
        one.unit, one.event_uid, one.event_time, one.observer, one.environment, one.did,
        one.action_class, one.resource_sensitivity, one.vendor_hosted, one.subject_id,
        one.credential_key,
        one.delegation_record_id
    FROM judged AS one
    INNER JOIN (
        SELECT tenant_id, identity_id, credential_key
        FROM judged
        WHERE names_token AND credential_key IS NOT NULL
        GROUP BY tenant_id, identity_id, credential_key
        HAVING least(min(call_unit), min(token_unit)) <> greatest(max(call_unit), max(token_unit))
            AND NOT bool_and(is_own_unit)
    ) AS mixed
        ON one.tenant_id = mixed.tenant_id AND one.identity_id = mixed.identity_id
        AND one.credential_key = mixed.credential_key
),
placed AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY tenant_id, identity_id, variant, served ORDER BY event_time, event_uid)
            AS place
    FROM against
),
found AS (
    SELECT
        tenant_id, identity_id, variant, served,
        list_sort(list(DISTINCT unit) FILTER (WHERE unit IS NOT NULL)) AS business_units,
        list_sort(list(DISTINCT delegation_record_id) FILTER (WHERE delegation_record_id IS NOT NULL))
            AS records_named,
        list_sort(list(DISTINCT subject_id) FILTER (WHERE subject_id IS NOT NULL AND place <= $evidence_max))
            AS principals,
        list_sort(list(DISTINCT did) FILTER (WHERE place <= $evidence_max)) AS did,
        count(*) AS acts,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        bool_or(coalesce(vendor_hosted, false)) AS vendor_hosted,
        CASE WHEN count(DISTINCT coalesce(environment, 'unknown')) = 1 THEN min(environment) END AS environment,
        max(observer) FILTER (WHERE observer <> 'agent_runtime') AS observer,
        min(credential_key) FILTER (WHERE variant = 'one_token') AS credential_key,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list_sort(list(DISTINCT event_uid) FILTER (WHERE place <= $evidence_max)) AS event_uids
    FROM placed
    GROUP BY tenant_id, identity_id, variant, served
)
SELECT
    found.tenant_id,
    found.identity_id,
    found.variant,
    found.served,
    found.identity_id AS entity,
    CASE found.variant
        WHEN 'one_token'
            THEN found.identity_id || ' used one token for ' || array_to_string(found.business_units, ' and ')
        ELSE found.identity_id || ' acted for ' || CASE
                WHEN found.served = '(unknown)' THEN 'others' ELSE 'the business unit ' || found.served
            END
            || CASE
                WHEN array_length(found.records_named) > 0 THEN ' under a delegation record that does not cover it'
                ELSE ' without a delegation record'
            END
    END AS title,
    CASE WHEN found.variant = 'one_token' THEN 4 ELSE 3 END AS severity,
    found.credential_key,
    found.action_class,
    found.resource_sensitivity,
    found.vendor_hosted,
    found.environment,
    coalesce(found.observer, 'agent_runtime') AS observer,
    found.business_units,
    found.records_named,
    found.principals,
    found.did,
    found.acts,
    found.first_seen,
    found.last_seen,
    found.event_uids
FROM found
