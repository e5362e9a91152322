-- Somebody became actor whom the token, the registry or the issuer does not allow to.
--
-- One row per reason, delegator and actor.  An absent may_act or an absent list says nothing; an
-- empty one admits nobody.  Registered aliases are one party, and gateways act for nobody.
WITH hop_actors AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.hop_kind, hop.hop_time, hop.confidence,
        coalesce(child.actor_id, child.client_id, hop.delegate) AS actor,
        child.actor_issuer, child.actor_id IS NOT NULL AS is_named_actor,
        parent.may_act, coalesce(parent.actor_id, parent.client_id) AS delegator,
        parent.actor_id IS NOT NULL AS is_delegated_on, parent.subject_id AS parent_subject,
        child.environment, child.observer, hop.actor_changed,
        list_concat(hop.event_uids, list_concat(child.event_uids, parent.event_uids)) AS event_uids
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    INNER JOIN credentials AS parent
        ON hop.tenant_id = parent.tenant_id AND hop.parent_key = parent.credential_key
    WHERE hop.hop_kind IN ('exchange', 'delegate', 'assertion', 'issue')
        AND coalesce(hop.role, 'subject') <> 'source'
        AND coalesce(child.actor_id, child.client_id, hop.delegate) IS NOT NULL
),
-- The party behind a name; of an issuer's own name where one is known.
parties AS (
    SELECT actors.tenant_id, actors.child_key, named.identity_id
    FROM hop_actors AS actors
    INNER JOIN reg_names AS named
        ON actors.actor = named.name
        AND (named.issuer IS NULL OR actors.actor_issuer IS NULL OR named.issuer = actors.actor_issuer)
    GROUP BY actors.tenant_id, actors.child_key, named.identity_id
),
gateways AS (
    SELECT DISTINCT parties.tenant_id, parties.child_key
    FROM parties
    INNER JOIN reg_identities AS identity ON parties.identity_id = identity.identity_id
    WHERE identity.pass_through
),
changed AS (
    SELECT actors.*
    FROM hop_actors AS actors
    LEFT JOIN gateways
        ON actors.tenant_id = gateways.tenant_id AND actors.child_key = gateways.child_key
    -- A client that names itself actor of its own token becomes actor, though the party is the same.
    WHERE (actors.actor_changed OR (actors.is_named_actor AND NOT actors.is_delegated_on AND actors.may_act IS NOT NULL))
        AND gateways.child_key IS NULL
),
named_by_token AS (
    SELECT changed.tenant_id, changed.child_key, changed.actor, changed.actor_issuer, unnest(changed.may_act) AS one
    FROM changed
    WHERE changed.may_act IS NOT NULL
),
admitted AS (
    SELECT tenant_id, child_key
    FROM named_by_token
    WHERE one.subject = actor
        AND (one.issuer IS NULL OR actor_issuer IS NULL OR one.issuer = actor_issuer)
    UNION
    SELECT token.tenant_id, token.child_key
    FROM named_by_token AS token
    INNER JOIN parties ON token.tenant_id = parties.tenant_id AND token.child_key = parties.child_key
    INNER JOIN reg_names AS named
        ON token.one.subject = named.name AND named.identity_id = parties.identity_id
        AND (named.issuer IS NULL OR token.one.issuer IS NULL OR named.issuer = token.one.issuer)
),
-- Who made whom act: by a token, or as its runtime tells.
pairs AS (
    SELECT
        tenant_id, 'token' AS seen_in, child_key AS pair_key, delegator, actor,
        actor_issuer, is_delegated_on, hop_time AS seen_at, confidence, environment, observer,
        child_key AS credential_key, event_uids
    FROM changed
    WHERE delegator IS NOT NULL AND actor_changed
    UNION ALL
    SELECT
        tenant_id, 'call' AS seen_in, min(event_uid) AS pair_key, parent_agent_id AS delegator, agent_id AS actor,
        agent_issuer AS actor_issuer, true AS is_delegated_on, min(event_time) AS seen_at, 1.0 AS confidence,
        min(environment) AS environment, min(observer) AS observer,
        CAST(NULL AS VARCHAR) AS credential_key, [min(event_uid), max(event_uid)] AS event_uids
    FROM tool_calls
    WHERE parent_agent_id IS NOT NULL AND parent_agent_id <> agent_id AND outcome <> 'denied'
    GROUP BY tenant_id, parent_agent_id, agent_id, agent_issuer, event_date
),
pair_ids AS (
    SELECT
        pairs.tenant_id, pairs.seen_in, pairs.pair_key,
        acting.identity_id AS actor_identity, giving.identity_id AS delegator_identity
    FROM pairs
    LEFT JOIN reg_names AS acting
        ON pairs.actor = acting.name
        AND (acting.issuer IS NULL OR pairs.actor_issuer IS NULL OR acting.issuer = pairs.actor_issuer)
    LEFT JOIN reg_names AS giving ON pairs.delegator = giving.name
    WHERE acting.identity_id IS NOT NULL OR giving.identity_id IS NOT NULL
),
-- One of its identities that is allowed suffices.
pair_judged AS (
    SELECT
        ids.tenant_id, ids.seen_in, ids.pair_key,
        bool_and(
            coalesce(NOT (
                list_contains(child.allowed_parents, coalesce(ids.delegator_identity, pairs.delegator))
            ), false)
            AND (ids.delegator_identity IS NOT NULL OR pairs.is_delegated_on)
            AND ids.delegator_identity IS DISTINCT FROM ids.actor_identity
            AND NOT coalesce(parent.pass_through, false)
        ) AS is_wrong_parent,
        bool_and(
            coalesce(NOT list_contains(parent.allowed_children, coalesce(ids.actor_identity, pairs.actor)), false)
            AND ids.delegator_identity IS DISTINCT FROM ids.actor_identity
            AND NOT coalesce(child.pass_through, false)
        ) AS is_wrong_child
    FROM pair_ids AS ids
    INNER JOIN pairs
        ON ids.tenant_id = pairs.tenant_id AND ids.seen_in = pairs.seen_in AND ids.pair_key = pairs.pair_key
    LEFT JOIN reg_identities_as_of AS child
        ON ids.actor_identity = child.identity_id
        AND pairs.seen_at >= child.valid_from AND pairs.seen_at < child.valid_to
    LEFT JOIN reg_identities_as_of AS parent
        ON ids.delegator_identity = parent.identity_id
        AND pairs.seen_at >= parent.valid_from AND pairs.seen_at < parent.valid_to
    GROUP BY ids.tenant_id, ids.seen_in, ids.pair_key
),
-- A registered name in the mouth of an issuer that may not speak for it.
issuers_of AS (
    SELECT subject, list_distinct(list(issuer)) AS issuers, bool_or(issuer IS NULL) AS is_any
    FROM reg_aliases
    GROUP BY subject
),
foreign_named AS (
    SELECT changed.tenant_id, changed.child_key
    FROM changed
    INNER JOIN issuers_of ON changed.actor = issuers_of.subject
    LEFT JOIN reg_issuers AS theirs ON changed.actor_issuer = theirs.issuer
    LEFT JOIN (
        SELECT alias.subject, issuer.trust_domain
        FROM reg_aliases AS alias
        INNER JOIN reg_issuers AS issuer ON alias.issuer = issuer.issuer
        WHERE issuer.trust_domain IS NOT NULL
        GROUP BY alias.subject, issuer.trust_domain
    ) AS home
        ON changed.actor = home.subject AND theirs.trust_domain = home.trust_domain
    WHERE changed.is_named_actor AND changed.actor_changed AND changed.actor_issuer IS NOT NULL
        AND NOT issuers_of.is_any AND NOT list_contains(issuers_of.issuers, changed.actor_issuer)
        AND home.subject IS NULL
),
all_found AS (
    SELECT
        changed.tenant_id, 'may_act' AS reason, coalesce(changed.delegator, changed.parent_subject, 'unknown') AS delegator,
        changed.actor, changed.hop_time AS seen_at, changed.confidence, changed.environment, changed.observer,
        changed.child_key AS credential_key, changed.event_uids,
        list_transform(changed.may_act, lambda x: x.subject) AS permitted
    FROM changed
    LEFT JOIN admitted ON changed.tenant_id = admitted.tenant_id AND changed.child_key = admitted.child_key
    WHERE changed.may_act IS NOT NULL AND admitted.child_key IS NULL
    UNION ALL
    SELECT
        pairs.tenant_id, CASE WHEN judged.is_wrong_parent THEN 'allowed_parents' ELSE 'allowed_children' END AS reason,
        pairs.delegator, pairs.actor, pairs.seen_at, pairs.confidence, pairs.environment, pairs.observer,
        pairs.credential_key, pairs.event_uids, CAST([] AS VARCHAR[]) AS permitted
    FROM pairs
    INNER JOIN pair_judged AS judged
        ON pairs.tenant_id = judged.tenant_id AND pairs.seen_in = judged.seen_in AND pairs.pair_key = judged.pair_key
    WHERE judged.is_wrong_parent OR judged.is_wrong_child
    UNION ALL
    SELECT
        changed.tenant_id, 'actor_issuer' AS reason, coalesce(changed.delegator, changed.parent_subject, 'unknown') AS delegator,
        changed.actor, changed.hop_time AS seen_at, changed.confidence, changed.environment, changed.observer,
        changed.child_key AS credential_key, changed.event_uids, [changed.actor_issuer] AS permitted
    FROM changed
    INNER JOIN foreign_named
        ON changed.tenant_id = foreign_named.tenant_id AND changed.child_key = foreign_named.child_key
),
ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY tenant_id, reason, delegator, actor ORDER BY seen_at, coalesce(credential_key, '')
        ) AS rank
    FROM all_found
)
SELECT
    tenant_id,
    reason,
    delegator,
    actor,
    actor AS entity,
    actor || CASE reason
        WHEN 'may_act' THEN ' acts on a token of ' || delegator || ' that does not admit it'
        WHEN 'actor_issuer' THEN ' was named as actor by an issuer that may not speak for it'
        ELSE ' acts for ' || delegator || ', which the registry does not allow'
    END AS title,
    max(confidence) AS confidence,
    max(confidence) AS chain_confidence,
    min(credential_key) FILTER (WHERE rank = 1) AS credential_key,
    CASE WHEN bool_or(coalesce(environment, 'unknown') IN ('prod', 'unknown')) THEN 'prod' ELSE min(environment) END
        AS environment,
    coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
    list_sort(list_distinct(flatten(list(permitted) FILTER (WHERE rank <= $evidence_max)))) AS permitted,
    count(*) AS times,
    min(seen_at) AS first_seen,
    max(seen_at) AS last_seen,
    list_sort(list_distinct(flatten(list(event_uids) FILTER (WHERE rank <= $evidence_max)))) AS event_uids
FROM ranked
GROUP BY tenant_id, reason, delegator, actor
