-- A credential was presented by somebody other than the party that it was issued to.
--
-- One row per credential and presenter, at use or at exchange.  Registered gateways and
-- delegates may present for others, and a resource server may exchange a token whose
-- audience it is.  Where two logs name parties in different ways nothing is said.
WITH names AS (
    SELECT identity_id, issuer, subject FROM reg_aliases
    UNION
    SELECT identity_id, CAST(NULL AS VARCHAR) AS issuer, identity_id AS subject FROM reg_identities
),
-- Who presented which credential: a credential has many calls and few presenters.
used AS (
    SELECT
        tenant_id, credential_key, source, observer, agent_id, agent_issuer, actor_id, workload_id,
        parent_agent_id
    FROM calls
    WHERE link_method IN ('T1', 'T2', 'T3') AND link_confidence >= $link_confidence_min
        AND outcome <> 'denied' AND credential_key IS NOT NULL
        -- Whom an observer could not name is not somebody else.
        AND agent_id <> 'unknown'
        -- A cloud reads the principal off the key: it cannot see another one present it.
        AND observer <> 'cloud_audit'
    GROUP BY
        tenant_id, credential_key, source, observer, agent_id, agent_issuer, actor_id, workload_id,
        parent_agent_id
),
presented AS (
    SELECT
        used.*, held.actor_id AS held_actor, held.client_id AS held_client, held.subject_id AS held_subject,
        held.issuer AS held_issuer
    FROM used
    INNER JOIN credentials AS held
        ON used.tenant_id = held.tenant_id AND used.credential_key = held.credential_key
    WHERE held.seen_issued AND coalesce(held.actor_id, held.client_id) IS NOT NULL
        -- A transaction token travels through every workload of its call by design.
        AND NOT (
            ends_with(lower(coalesce(held.token_type, '')), 'txn_token')
            OR ends_with(lower(coalesce(held.token_type, '')), 'txn-token')
        )
),
-- Parties are compared once for all their calls.
parties AS (
    SELECT DISTINCT
        tenant_id, source, observer, agent_id, agent_issuer, actor_id, workload_id, parent_agent_id,
        held_actor, held_client, held_subject, held_issuer
    FROM presented
),
pairs AS (
    SELECT
        *,
        concat_ws(
            chr(31), tenant_id, source, observer, agent_id, coalesce(agent_issuer, ''),
            coalesce(actor_id, ''), coalesce(workload_id, ''), coalesce(parent_agent_id, ''),
            coalesce(held_actor, ''), coalesce(held_client, ''), coalesce(held_subject, ''),
            coalesce(held_issuer, '')
        ) AS pair
    FROM parties
),
presenters AS (
    SELECT pair, 'agent' AS named_as, agent_id AS name, agent_issuer AS issuer FROM pairs
    UNION
    SELECT pair, 'agent' AS named_as, actor_id AS name, CAST(NULL AS VARCHAR) AS issuer
    FROM pairs WHERE actor_id IS NOT NULL
    UNION
    SELECT pair, 'workload' AS named_as, workload_id AS name, CAST(NULL AS VARCHAR) AS issuer
    FROM pairs WHERE workload_id IS NOT NULL
),
holders AS (
    SELECT pair, held_actor AS name FROM pairs WHERE held_actor IS NOT NULL
    UNION
    SELECT pair, held_client AS name FROM pairs WHERE held_client IS NOT NULL
    UNION
    SELECT pair, held_subject AS name FROM pairs WHERE held_subject IS NOT NULL
),
presenter_ids AS (
    SELECT
        presenters.pair, presenters.named_as, identity.identity_id, identity.kind, identity.pass_through,
        coalesce(identity.delegate_for, CAST([] AS VARCHAR[])) AS delegate_for
    FROM presenters
    INNER JOIN names
        ON presenters.name = names.subject
        AND (names.issuer IS NULL OR presenters.issuer IS NULL OR names.issuer = presenters.issuer)
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
),
holder_ids AS (
    SELECT DISTINCT holders.pair, names.identity_id
    FROM holders
    INNER JOIN names ON holders.name = names.subject
),
permitted AS (
    SELECT presenter_ids.pair, presenter_ids.named_as
    FROM presenter_ids
    INNER JOIN holder_ids ON presenter_ids.pair = holder_ids.pair
    WHERE presenter_ids.identity_id = holder_ids.identity_id
        OR list_contains(presenter_ids.delegate_for, holder_ids.identity_id)
    UNION
    SELECT pair, named_as FROM presenter_ids WHERE pass_through
    UNION
    SELECT presenters.pair, presenters.named_as
    FROM presenters
    INNER JOIN holders ON presenters.pair = holders.pair AND presenters.name = holders.name
    UNION
    -- A runtime's bare name, and the holder's full one that ends with it.
    SELECT presenters.pair, presenters.named_as
    FROM presenters
    INNER JOIN holders
        ON presenters.pair = holders.pair
        AND lower(presenters.name) = regexp_replace(lower(rtrim(holders.name, '/')), '^.*[/:]', '')
    WHERE presenters.named_as = 'agent'
    UNION
    -- A sub-agent of the holder, in its process: sharing, and a rule of its own.
    SELECT pairs.pair, 'agent' AS named_as
    FROM pairs
    INNER JOIN holders ON pairs.pair = holders.pair AND pairs.parent_agent_id = holders.name
),
-- The workload is what was authenticated; the agent's name beside it is a claim.
contradicted AS (
    SELECT DISTINCT presenter_ids.pair
    FROM presenter_ids
    INNER JOIN holder_ids ON presenter_ids.pair = holder_ids.pair
    LEFT JOIN permitted
        ON presenter_ids.pair = permitted.pair AND permitted.named_as = 'workload'
    WHERE presenter_ids.named_as = 'workload' AND presenter_ids.kind IN ('agent', 'agent_user', 'client')
        AND permitted.pair IS NULL
),
compared AS (
    SELECT
        pairs.*,
        contradicted.pair IS NOT NULL AS is_contradicted,
        permitted.pair IS NULL AS is_stranger
    FROM pairs
    LEFT JOIN contradicted ON pairs.pair = contradicted.pair
    LEFT JOIN (SELECT DISTINCT pair FROM permitted) AS permitted ON pairs.pair = permitted.pair
),
-- Does this source name parties as this issuer does?  One match shows it.
habits AS (
    SELECT
        tenant_id, source, held_issuer,
        count(*) FILTER (WHERE NOT is_stranger) AS matching,
        count(DISTINCT agent_id) FILTER (WHERE is_stranger) AS strangers
    FROM compared
    GROUP BY tenant_id, source, held_issuer
),
known_holders AS (
    SELECT DISTINCT tenant_id, actor_id AS name FROM credentials WHERE seen_issued AND actor_id IS NOT NULL
    UNION
    SELECT DISTINCT tenant_id, client_id AS name FROM credentials WHERE seen_issued AND client_id IS NOT NULL
),
known_agents AS (
    SELECT DISTINCT tenant_id, agent_id AS name FROM tool_calls
),
strangers AS (
    SELECT DISTINCT
        compared.pair, compared.tenant_id, compared.source, compared.observer, compared.agent_id,
        compared.agent_issuer, compared.actor_id, compared.workload_id, compared.parent_agent_id,
        compared.held_actor, compared.held_client, compared.held_subject, compared.held_issuer
    FROM compared
    INNER JOIN habits
        ON compared.tenant_id = habits.tenant_id AND compared.source = habits.source
        AND compared.held_issuer IS NOT DISTINCT FROM habits.held_issuer
    LEFT JOIN known_holders AS as_holder
        ON compared.tenant_id = as_holder.tenant_id AND compared.agent_id = as_holder.name
    LEFT JOIN known_agents AS as_agent
        ON compared.tenant_id = as_agent.tenant_id
        AND coalesce(compared.held_actor, compared.held_client) = as_agent.name
    LEFT JOIN (SELECT DISTINCT pair FROM presenter_ids) AS registered_presenter
        ON compared.pair = registered_presenter.pair
    LEFT JOIN (SELECT DISTINCT pair FROM holder_ids) AS registered_holder
        ON compared.pair = registered_holder.pair
    WHERE compared.is_contradicted
        OR (
            compared.is_stranger AND (
                as_agent.name IS NOT NULL
                OR (registered_presenter.pair IS NOT NULL AND registered_holder.pair IS NOT NULL)
                -- A client without an actor may be the application that runs the agent.
                OR (
                    compared.held_actor IS NOT NULL AND (
                        habits.matching > 0
                        OR as_holder.name IS NOT NULL
                        -- An enforcement point authenticates whom it names, until it never fits.
                        OR (compared.observer <> 'agent_runtime' AND habits.strangers < $coverage_agents_min)
                    )
                )
            )
        )
),
recorded AS (
    SELECT presenter_ids.pair, record.not_before, record.not_after
    FROM presenter_ids
    INNER JOIN reg_delegation_records AS record
        ON presenter_ids.identity_id = record.delegate AND record.status = 'active'
    INNER JOIN holders ON presenter_ids.pair = holders.pair AND record.principal = holders.name
    UNION
    SELECT presenter_ids.pair, record.not_before, record.not_after
    FROM presenter_ids
    INNER JOIN reg_delegation_records AS record
        ON presenter_ids.identity_id = record.delegate AND record.status = 'active'
    INNER JOIN holder_ids
        ON presenter_ids.pair = holder_ids.pair AND record.principal = holder_ids.identity_id
),
wrong_parties AS (
    SELECT presented.*, strangers.pair
    FROM presented
    INNER JOIN strangers
        ON presented.tenant_id = strangers.tenant_id
        AND presented.source = strangers.source
        AND presented.observer = strangers.observer
        AND presented.agent_id = strangers.agent_id
        AND presented.agent_issuer IS NOT DISTINCT FROM strangers.agent_issuer
        AND presented.actor_id IS NOT DISTINCT FROM strangers.actor_id
        AND presented.workload_id IS NOT DISTINCT FROM strangers.workload_id
        AND presented.parent_agent_id IS NOT DISTINCT FROM strangers.parent_agent_id
        AND presented.held_actor IS NOT DISTINCT FROM strangers.held_actor
        AND presented.held_client IS NOT DISTINCT FROM strangers.held_client
        AND presented.held_subject IS NOT DISTINCT FROM strangers.held_subject
        AND presented.held_issuer IS NOT DISTINCT FROM strangers.held_issuer
),
wrong_uses AS (
    SELECT
        wrong.tenant_id, wrong.credential_key, wrong.agent_id, wrong.workload_id, wrong.observer,
        wrong.held_actor, wrong.held_client, call.event_uid, call.event_time, call.tool_name,
        call.action_class, call.resource_sensitivity,
        row_number() OVER (
            PARTITION BY wrong.tenant_id, wrong.credential_key, wrong.agent_id
            ORDER BY call.event_time, call.event_uid
        ) AS place
    FROM calls AS call
    INNER JOIN wrong_parties AS wrong
        ON call.tenant_id = wrong.tenant_id
        AND call.credential_key = wrong.credential_key
        AND call.source = wrong.source
        AND call.observer = wrong.observer
        AND call.agent_id = wrong.agent_id
        AND call.agent_issuer IS NOT DISTINCT FROM wrong.agent_issuer
        AND call.actor_id IS NOT DISTINCT FROM wrong.actor_id
        AND call.workload_id IS NOT DISTINCT FROM wrong.workload_id
        AND call.parent_agent_id IS NOT DISTINCT FROM wrong.parent_agent_id
    LEFT JOIN recorded
        ON wrong.pair = recorded.pair
        AND (recorded.not_before IS NULL OR call.event_time >= recorded.not_before)
        AND (recorded.not_after IS NULL OR call.event_time <= recorded.not_after)
    WHERE recorded.pair IS NULL
        AND call.link_method IN ('T1', 'T2', 'T3') AND call.link_confidence >= $link_confidence_min
        AND call.outcome <> 'denied'
),
use_found AS (
    SELECT
        tenant_id, 'use' AS presented_at, credential_key, agent_id AS presenter,
        min(coalesce(held_actor, held_client)) AS expected, min(workload_id) AS workload_id,
        count(*) AS uses,
        max(action_class) FILTER (
            WHERE action_class IN ('admin_iam', 'delete', 'payment', 'secret_read', 'execute')
        ) AS action_class,
        max(resource_sensitivity) AS resource_sensitivity,
        coalesce(max(observer) FILTER (WHERE observer <> 'agent_runtime'), 'agent_runtime') AS observer,
        list_sort(list_distinct(list(tool_name) FILTER (WHERE place <= $evidence_max))) AS used_for,
        min(event_time) AS first_seen, max(event_time) AS last_seen,
        list(event_uid) FILTER (WHERE place <= $evidence_max) AS event_uids
    FROM wrong_uses
    GROUP BY tenant_id, credential_key, agent_id
),
exchanges AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.hop_kind, hop.hop_time, hop.event_uids,
        child.client_id AS requester, child.actor_id AS child_actor, child.observer, child.issuer,
        child.event_uids AS child_events,
        parent.client_id AS held_client, parent.actor_id AS held_actor, parent.subject_id AS held_subject,
        parent.audience,
        coalesce(parent.may_act, CAST([] AS STRUCT(issuer VARCHAR, subject VARCHAR)[])) AS may_act
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    INNER JOIN credentials AS parent
        ON hop.tenant_id = parent.tenant_id AND hop.parent_key = parent.credential_key
    WHERE child.client_id IS NOT NULL
        AND (
            (
                hop.hop_kind = 'exchange' AND hop.role = 'subject'
                AND coalesce(parent.actor_id, parent.client_id) IS NOT NULL
                -- Without an audience any resource server may be the one that exchanged it.
                AND array_length(parent.audience) > 0
            )
            -- A refresh token is bound to its client (RFC 6749 section 6).
            OR (hop.hop_kind = 'refresh' AND parent.client_id <> child.client_id)
        )
),
requester_ids AS (
    SELECT
        exchanges.child_key, identity.identity_id, identity.pass_through,
        coalesce(identity.delegate_for, CAST([] AS VARCHAR[])) AS delegate_for,
        coalesce(identity.allowed_parents, CAST([] AS VARCHAR[])) AS allowed_parents
    FROM exchanges
    INNER JOIN names
        ON exchanges.requester = names.subject
        AND (names.issuer IS NULL OR exchanges.issuer IS NULL OR names.issuer = exchanges.issuer)
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
),
entitled_names AS (
    SELECT child_key, held_client AS name FROM exchanges WHERE held_client IS NOT NULL
    UNION
    SELECT child_key, held_actor AS name FROM exchanges WHERE held_actor IS NOT NULL AND hop_kind = 'exchange'
    UNION
    SELECT child_key, held_subject AS name FROM exchanges WHERE held_subject IS NOT NULL AND hop_kind = 'exchange'
    UNION
    SELECT exchanges.child_key, item.name
    FROM exchanges
    CROSS JOIN unnest(exchanges.audience) AS item(name)
    WHERE exchanges.hop_kind = 'exchange'
    UNION
    SELECT exchanges.child_key, item.actor.subject AS name
    FROM exchanges
    CROSS JOIN unnest(exchanges.may_act) AS item(actor)
    WHERE exchanges.hop_kind = 'exchange'
),
entitled_ids AS (
    SELECT DISTINCT entitled_names.child_key, identity.identity_id,
        coalesce(identity.allowed_children, CAST([] AS VARCHAR[])) AS allowed_children
    FROM entitled_names
    INNER JOIN names ON entitled_names.name = names.subject
    INNER JOIN reg_identities AS identity ON names.identity_id = identity.identity_id
),
-- A client's id may be another name of the actor; one registered as somebody else is not.
apart AS (
    SELECT exchanges.child_key
    FROM exchanges
    INNER JOIN requester_ids ON exchanges.child_key = requester_ids.child_key
    INNER JOIN names ON exchanges.child_actor = names.subject
    GROUP BY exchanges.child_key
    HAVING NOT bool_or(requester_ids.identity_id = names.identity_id)
),
entitled AS (
    SELECT exchanges.child_key
    FROM exchanges
    INNER JOIN entitled_names ON exchanges.child_key = entitled_names.child_key
    LEFT JOIN apart ON exchanges.child_key = apart.child_key
    WHERE entitled_names.name = exchanges.requester
        OR (entitled_names.name = exchanges.child_actor AND apart.child_key IS NULL)
        -- https://agent-b.example is agent-b.
        OR contains(entitled_names.name, exchanges.requester)
    UNION
    SELECT requester_ids.child_key
    FROM requester_ids
    INNER JOIN entitled_ids ON requester_ids.child_key = entitled_ids.child_key
    WHERE requester_ids.identity_id = entitled_ids.identity_id
        OR list_contains(requester_ids.delegate_for, entitled_ids.identity_id)
        OR list_contains(requester_ids.allowed_parents, entitled_ids.identity_id)
        OR list_contains(entitled_ids.allowed_children, requester_ids.identity_id)
    UNION
    SELECT child_key FROM requester_ids WHERE pass_through
    UNION
    SELECT exchanges.child_key
    FROM exchanges
    INNER JOIN requester_ids ON exchanges.child_key = requester_ids.child_key
    INNER JOIN reg_delegation_records AS record
        ON requester_ids.identity_id = record.delegate AND record.status = 'active'
        AND (record.not_before IS NULL OR record.not_before <= exchanges.hop_time)
        AND (record.not_after IS NULL OR record.not_after >= exchanges.hop_time)
    INNER JOIN entitled_names
        ON exchanges.child_key = entitled_names.child_key AND record.principal = entitled_names.name
),
judged AS (
    SELECT
        exchanges.*, entitled.child_key IS NULL AS is_stranger,
        registered.child_key IS NOT NULL AS is_registered,
        -- It asked, and the new token still names the old holder: no server that calls onward.
        apart.child_key IS NOT NULL AND exchanges.child_actor = exchanges.held_actor AS is_in_its_name
    FROM exchanges
    LEFT JOIN apart ON exchanges.child_key = apart.child_key
    LEFT JOIN entitled ON exchanges.child_key = entitled.child_key
    LEFT JOIN (SELECT DISTINCT child_key FROM requester_ids) AS registered
        ON exchanges.child_key = registered.child_key
),
-- An audience often is a platform or an address and names no client at all.  It says who may
-- exchange where it names a party that we know, or where this issuer's exchanges mostly fit.
naming AS (
    SELECT DISTINCT judged.child_key
    FROM judged
    CROSS JOIN unnest(judged.audience) AS item(name)
    INNER JOIN (
        SELECT tenant_id, name FROM known_holders
        UNION
        SELECT tenant_id, name FROM known_agents
    ) AS party
        ON judged.tenant_id = party.tenant_id AND item.name = party.name
    WHERE judged.is_stranger AND judged.hop_kind = 'exchange'
),
customs AS (
    SELECT
        tenant_id, issuer,
        count(*) FILTER (WHERE NOT is_stranger) >= $fitting_factor * count(*) FILTER (WHERE is_stranger)
            AS is_kept
    FROM judged
    WHERE hop_kind = 'exchange'
    GROUP BY tenant_id, issuer
),
exchange_found AS (
    SELECT
        exchanges.tenant_id, exchanges.hop_kind AS presented_at, exchanges.parent_key AS credential_key,
        exchanges.requester AS presenter,
        min(coalesce(exchanges.held_actor, exchanges.held_client)) AS expected,
        CAST(NULL AS VARCHAR) AS workload_id,
        count(*) AS uses, CAST(NULL AS VARCHAR) AS action_class, CAST(NULL AS INTEGER) AS resource_sensitivity,
        max(exchanges.observer) AS observer, ['token endpoint'] AS used_for,
        min(exchanges.hop_time) AS first_seen, max(exchanges.hop_time) AS last_seen,
        list_distinct(flatten(list(list_concat(exchanges.event_uids, exchanges.child_events)))) AS event_uids
    FROM judged AS exchanges
    LEFT JOIN naming ON exchanges.child_key = naming.child_key
    LEFT JOIN customs
        ON exchanges.tenant_id = customs.tenant_id AND exchanges.issuer IS NOT DISTINCT FROM customs.issuer
    WHERE exchanges.is_stranger
        AND (
            exchanges.hop_kind = 'refresh'
            OR naming.child_key IS NOT NULL
            OR exchanges.is_in_its_name
            OR (
                coalesce(customs.is_kept, false)
                -- An address need not name the client that serves it.
                AND (
                    exchanges.is_registered
                    OR array_length(list_filter(exchanges.audience, lambda x: contains(x, '://'))) = 0
                )
            )
        )
    GROUP BY exchanges.tenant_id, exchanges.hop_kind, exchanges.parent_key, exchanges.requester
),
found AS (
    SELECT * FROM use_found
    UNION ALL
    SELECT * FROM exchange_found
)
SELECT
    found.tenant_id,
    found.presented_at,
    found.credential_key,
    found.presenter,
    found.presenter AS entity,
    found.presenter || ' presented a credential of ' || coalesce(found.expected, 'another party')
        || CASE WHEN found.presented_at = 'use' THEN '' ELSE ' at the token endpoint' END AS title,
    chain.confidence,
    chain.confidence AS chain_confidence,
    found.action_class,
    found.resource_sensitivity,
    held.environment,
    found.observer,
    found.expected,
    found.workload_id,
    held.issuer,
    held.kind,
    held.audience,
    held.cnf_thumbprint,
    found.uses,
    found.used_for,
    found.first_seen,
    found.last_seen,
    list_sort(list_distinct(list_concat(found.event_uids, held.event_uids))) AS event_uids
FROM found
INNER JOIN credentials AS held
    ON found.tenant_id = held.tenant_id AND found.credential_key = held.credential_key
INNER JOIN chains AS chain
    ON found.tenant_id = chain.tenant_id AND found.credential_key = chain.credential_key
