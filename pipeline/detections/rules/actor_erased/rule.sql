-- An exchange, a refresh or the log of a resource server no longer shows who acted for the subject.
--
-- One row per way of losing it, issuer or source, and the actor that was lost.  A client that
-- differs from the subject stands for the actor.  A source that never names an actor anywhere,
-- a cut chain that says so, transaction tokens and registered legacy adapters are left out.
WITH naming AS (
    SELECT tenant_id, source,
        count(*) FILTER (WHERE coalesce(actor_id, client_id) IS NOT NULL OR array_length(act_chain) > 0) AS naming,
        count(*) FILTER (WHERE array_length(act_chain) > 0) AS nesting
    FROM token_events
    WHERE op IN ('issue', 'exchange', 'refresh', 'delegate') AND outcome = 'success'
    GROUP BY tenant_id, source
),
exchanges AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.hop_kind, hop.hop_time, hop.confidence,
        list_concat(hop.event_uids, list_concat(child.event_uids, parent.event_uids)) AS event_uids,
        child.issuer, child.source, child.observer, child.environment, child.subject_id, child.actor_convention,
        child.client_id, child.actor_id, child.audience,
        array_length(child.act_chain) AS child_actors, array_length(parent.act_chain) AS parent_actors,
        list_transform(child.act_chain, lambda x: x.subject) AS child_names,
        list_transform(parent.act_chain, lambda x: x.subject) AS parent_names,
        parent.actor_id AS parent_actor, parent.client_id AS parent_client, parent.source AS parent_source,
        naming.naming, naming.nesting,
        coalesce(child.subject_kind, parent.subject_kind) AS subject_kind
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    INNER JOIN credentials AS parent
        ON hop.tenant_id = parent.tenant_id AND hop.parent_key = parent.credential_key
    INNER JOIN naming ON child.tenant_id = naming.tenant_id AND child.source = naming.source
    WHERE hop.hop_kind IN ('exchange', 'refresh') AND child.seen_issued
        AND NOT child.act_truncated AND child.act_malformed_reason IS NULL
        -- A transaction token names its workloads elsewhere.
        AND NOT regexp_matches(lower(coalesce(child.token_type, '')), 'txn[_-]token')
),
lost AS (
    SELECT
        *,
        CASE
            WHEN hop_kind = 'refresh' THEN 'refresh'
            WHEN child_actors = 0 AND actor_id IS NULL AND (
                client_id IS NULL OR coalesce(actor_convention IN ('impersonation', 'none'), false)
            ) THEN 'impersonation'
            ELSE 'chain_shortened'
        END AS erased_at,
        coalesce(
            CASE WHEN client_id IS DISTINCT FROM subject_id THEN client_id END, parent_actor, parent_client
        ) AS erased_actor
    FROM exchanges
    WHERE (
            -- Nobody is left but the subject, and the subject did not ask by itself.
            hop_kind = 'exchange' AND child_actors = 0 AND actor_id IS NULL AND naming > 0
            AND (client_id IS NULL OR coalesce(actor_convention IN ('impersonation', 'none'), false))
            AND coalesce(client_id <> subject_id, coalesce(subject_kind, '') = 'human')
        )
        OR (
            -- Actors of the parent are gone.  Another log than the parent's may never nest them.
            parent_actors > 0 AND child_actors < parent_actors
            AND (child_actors > 0 OR source = parent_source)
            AND coalesce(actor_convention, 'act') IN ('act', 'none', 'impersonation')
            -- The log of a refresh seldom repeats the actors; it may say that there are none.
            AND (hop_kind = 'exchange' OR child_actors > 0 OR actor_convention IN ('none', 'impersonation'))
        )
        OR (
            -- As many as before, and yet one is gone: the last actor took the place of another.
            hop_kind = 'exchange' AND child_actors > 0 AND child_actors = parent_actors
            AND coalesce(child_names <> parent_names, false)
        )
        OR (
            -- The requester did not add itself.
            hop_kind = 'exchange' AND child_actors > 0 AND child_actors = parent_actors AND child_names = parent_names
            AND client_id IS NOT NULL AND NOT list_contains(child_names, client_id)
            AND client_id IS DISTINCT FROM parent_client AND client_id IS DISTINCT FROM parent_actor
            AND client_id IS DISTINCT FROM actor_id AND client_id IS DISTINCT FROM subject_id
            AND coalesce(actor_id = parent_actor, true)
        )
),
-- One actor under two names is the same actor, and a gateway is none.
missing AS (
    SELECT DISTINCT
        tenant_id, child_key, hop_time,
        unnest(list_filter(parent_names, lambda x: NOT list_contains(child_names, x))) AS name
    FROM lost
    WHERE child_actors > 0
),
gateways AS (
    SELECT DISTINCT named.name, identity.valid_from, identity.valid_to
    FROM reg_names AS named
    INNER JOIN reg_identities_as_of AS identity ON named.identity_id = identity.identity_id
    WHERE identity.pass_through
),
excused AS (
    SELECT DISTINCT party.tenant_id, party.child_key
    FROM (
        SELECT tenant_id, child_key, hop_time,
            unnest(list_concat([client_id, erased_actor, actor_id], audience)) AS name
        FROM lost
    ) AS party
    INNER JOIN reg_names AS named ON party.name = named.name
    INNER JOIN reg_identities_as_of AS identity
        ON named.identity_id = identity.identity_id
        AND party.hop_time >= identity.valid_from AND party.hop_time < identity.valid_to
    WHERE identity.pass_through OR identity.impersonation_allowed_until > party.hop_time
    UNION
    SELECT lost.tenant_id, lost.child_key
    FROM lost
    INNER JOIN reg_names AS one ON one.name = coalesce(lost.client_id, list_extract(lost.child_names, 1))
    INNER JOIN reg_names AS other
        ON other.identity_id = one.identity_id AND other.name = coalesce(lost.parent_actor, list_extract(lost.parent_names, 1))
    WHERE lost.child_actors > 0 AND lost.child_actors = lost.parent_actors
    UNION
    -- All that is missing are gateways, which are nobody.
    SELECT missing.tenant_id, missing.child_key
    FROM missing
    LEFT JOIN gateways
        ON missing.name = gateways.name
        AND missing.hop_time >= gateways.valid_from AND missing.hop_time < gateways.valid_to
    GROUP BY missing.tenant_id, missing.child_key
    HAVING count(gateways.name) = count(*)
),
hop_found AS (
    SELECT
        lost.tenant_id, lost.erased_at, coalesce(lost.issuer, lost.source) AS lost_by,
        coalesce(lost.erased_actor, 'unknown') AS erased_actor,
        lost.child_key AS credential_key, lost.subject_id, lost.parent_names, lost.child_names, lost.audience,
        lost.environment, lost.observer, lost.confidence, lost.hop_time AS seen_at, lost.event_uids
    FROM lost
    LEFT JOIN excused ON lost.tenant_id = excused.tenant_id AND lost.child_key = excused.child_key
    WHERE excused.child_key IS NULL
),
-- A server that saw a token with an actor and logged the person as the one who acted.
call_lost AS (
    SELECT
        call.tenant_id, 'resource_log' AS erased_at, call.source AS lost_by,
        coalesce(held.actor_id, held.client_id) AS erased_actor,
        call.credential_key, call.subject_id, call.agent_id, call.tool_server, call.action_class,
        call.environment, call.observer, call.confidence, call.event_time AS seen_at,
        list_append(held.event_uids, call.event_uid) AS event_uids
    FROM calls AS call
    INNER JOIN credentials AS held
        ON call.tenant_id = held.tenant_id AND call.credential_key = held.credential_key
    WHERE call.link_method IN ('T1', 'T2', 'T3') AND call.link_confidence >= $link_confidence_min
        AND call.observer IN ('resource_server', 'gateway')
        AND call.outcome <> 'denied'
        AND call.actor_id IS NULL AND coalesce(array_length(call.act_chain), 0) = 0
        AND call.agent_id = held.subject_id
        AND held.actor_id IS NOT NULL AND held.actor_id <> held.subject_id
        AND coalesce(held.subject_kind, 'human') IN ('human', 'unknown')
),
call_excused AS (
    SELECT DISTINCT call_lost.tenant_id, call_lost.lost_by, call_lost.erased_actor
    FROM call_lost
    INNER JOIN reg_names AS named ON named.name IN (call_lost.erased_actor, call_lost.tool_server)
    INNER JOIN reg_identities_as_of AS identity
        ON named.identity_id = identity.identity_id
        AND call_lost.seen_at >= identity.valid_from AND call_lost.seen_at < identity.valid_to
    WHERE identity.impersonation_allowed_until > call_lost.seen_at
),
all_lost AS (
    SELECT
        tenant_id, erased_at, lost_by, erased_actor, credential_key, subject_id, parent_names, child_names,
        audience, environment, observer, confidence, seen_at, event_uids
    FROM hop_found
    UNION ALL
    SELECT
        call_lost.tenant_id, call_lost.erased_at, call_lost.lost_by, call_lost.erased_actor,
        call_lost.credential_key, call_lost.subject_id,
        CAST([] AS VARCHAR[]) AS parent_names, CAST([] AS VARCHAR[]) AS child_names, [call_lost.tool_server] AS audience,
        call_lost.environment, call_lost.observer, call_lost.confidence, call_lost.seen_at, call_lost.event_uids
    FROM call_lost
    LEFT JOIN call_excused
        ON call_lost.tenant_id = call_excused.tenant_id AND call_lost.lost_by = call_excused.lost_by
        AND call_lost.erased_actor = call_excused.erased_actor
    WHERE call_excused.lost_by IS NULL
),
used AS (
    SELECT wanted.tenant_id, wanted.credential_key,
        max(call.action_class) FILTER (
            WHERE call.action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(call.resource_sensitivity) AS resource_sensitivity
    FROM calls AS call
    INNER JOIN (SELECT DISTINCT tenant_id, credential_key FROM all_lost) AS wanted
        ON call.tenant_id = wanted.tenant_id AND call.credential_key = wanted.credential_key
    WHERE call.outcome <> 'denied'
    GROUP BY wanted.tenant_id, wanted.credential_key
),
ranked AS (
    SELECT
        all_lost.*, used.action_class, used.resource_sensitivity,
        row_number() OVER (
            PARTITION BY all_lost.tenant_id, all_lost.erased_at, all_lost.lost_by, all_lost.erased_actor
            ORDER BY all_lost.seen_at, all_lost.subject_id, all_lost.credential_key
        ) AS rank
    FROM all_lost
    LEFT JOIN used
        ON all_lost.tenant_id = used.tenant_id AND all_lost.credential_key = used.credential_key
)
SELECT
    tenant_id,
    erased_at,
    lost_by,
    erased_actor,
    erased_actor AS entity,
    CASE erased_at
        WHEN 'impersonation' THEN 'An exchange left only the subject and no trace of ' || erased_actor
        WHEN 'refresh' THEN 'A refresh for ' || erased_actor || ' dropped an actor from the chain'
        WHEN 'resource_log' THEN lost_by || ' logs what ' || erased_actor || ' does as done by the person'
        ELSE 'An exchange by ' || erased_actor || ' dropped an actor from the chain'
    END AS title,
    max(confidence) AS confidence,
    max(confidence) AS chain_confidence,
    min(credential_key) FILTER (WHERE rank = 1) AS credential_key,
    max(action_class) AS action_class,
    max(resource_sensitivity) AS resource_sensitivity,
    CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
        AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    count(*) AS times,
    list_sort(list_distinct(list(subject_id) FILTER (WHERE subject_id IS NOT NULL AND rank <= $evidence_max))) AS subjects,
    list_sort(list_distinct(flatten(list(parent_names) FILTER (WHERE rank <= $evidence_max)))) AS actors_before,
    list_sort(list_distinct(flatten(list(child_names) FILTER (WHERE rank <= $evidence_max)))) AS actors_after,
    list_sort(list_distinct(list_filter(
        flatten(list(audience) FILTER (WHERE rank <= $evidence_max)), lambda x: x IS NOT NULL
    ))) AS audience,
    min(seen_at) AS first_seen,
    max(seen_at) AS last_seen,
    list_sort(list_distinct(flatten(list(event_uids) FILTER (WHERE rank <= $evidence_max)))) AS event_uids
FROM ranked
GROUP BY tenant_id, erased_at, lost_by, erased_actor
