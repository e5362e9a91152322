-- Two chains were joined that do not belong together.
--
-- One row per credential.  hash: the parent that a token names by digest is not the parent that
-- it was made from.  act, order: its earlier actors are not those of its parent.  unrelated: subject
-- token and actor token of its exchange belong to different sessions, transactions, tasks or
-- consents, and nothing else ties them; that one waits until all records are in.
WITH named_parents AS (
    SELECT
        event.tenant_id, event.event_uid, event.event_time, own.credential_key AS child_key,
        parent.link.role AS role, parent.link.kind AS kind, parent.link.id AS id, known.credential_key AS parent_key
    FROM (
        SELECT * FROM token_events
        WHERE outcome = 'success' AND array_length(parents) > 1 AND op IN ('issue', 'exchange', 'assume', 'refresh', 'delegate')
    ) AS event
    CROSS JOIN unnest(event.parents) AS parent(link)
    INNER JOIN credential_aliases AS own
        ON event.tenant_id = own.tenant_id AND event.credential_id = own.id AND event.credential_kind = own.kind
        AND coalesce(event.credential_issuer, '') = coalesce(own.issuer, '')
    LEFT JOIN credential_aliases AS known
        ON event.tenant_id = known.tenant_id AND parent.link.id = known.id AND parent.link.kind = known.kind
        AND coalesce(parent.link.issuer, '') = coalesce(known.issuer, '')
),
-- The digest that the child carries, against the digests that its named parent is known by.
hashed AS (
    SELECT
        named.tenant_id, named.child_key, named.event_uid, named.event_time, named.id AS carried,
        other.parent_key, list_sort(list_distinct(list(digest.id))) AS known_digests
    FROM named_parents AS named
    INNER JOIN named_parents AS other
        ON named.tenant_id = other.tenant_id AND named.event_uid = other.event_uid AND other.role <> 'actor'
    INNER JOIN credential_aliases AS digest
        ON other.tenant_id = digest.tenant_id AND other.parent_key = digest.credential_key AND digest.kind = 'par_hash'
    WHERE named.kind = 'par_hash' AND other.kind <> 'par_hash' AND named.role <> 'actor'
    GROUP BY named.tenant_id, named.child_key, named.event_uid, named.event_time, named.id, other.parent_key
    HAVING NOT bool_or(digest.id = named.id)
),
names AS (
    SELECT name, min(identity_id) AS identity_id FROM reg_names GROUP BY name
),
exchanges AS (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.hop_time, hop.event_uids AS hop_events,
        child.act_chain AS child_chain, parent.act_chain AS parent_chain, child.issuer AS child_issuer,
        parent.issuer AS parent_issuer, parent.actor_id AS parent_actor, parent.client_id AS parent_client,
        parent.subject_id AS parent_subject, child.actor_id AS child_actor, child.client_id AS child_client
    FROM hops AS hop
    INNER JOIN credentials AS child ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    INNER JOIN credentials AS parent ON hop.tenant_id = parent.tenant_id AND hop.parent_key = parent.credential_key
    WHERE hop.hop_kind = 'exchange' AND coalesce(hop.role, 'subject') = 'subject'
        -- A parent that was found by comparing chains cannot contradict the chain.
        AND hop.method IN ('P1', 'P2', 'P3') AND hop.confidence >= $link_confidence_min
        AND parent.seen_issued AND array_length(child.act_chain) > 1
        AND NOT coalesce(child.act_truncated, false) AND child.act_malformed_reason IS NULL
        AND NOT coalesce(parent.act_truncated, false) AND parent.act_malformed_reason IS NULL
        -- Another issuer may write the actors in names of its own.
        AND coalesce(child.issuer, '') = coalesce(parent.issuer, '')
),
priors AS (
    SELECT
        exchanges.tenant_id, exchanges.child_key, prior.hop.subject AS name,
        coalesce(names.identity_id, prior.hop.subject) AS party
    FROM exchanges
    CROSS JOIN unnest(list_slice(exchanges.child_chain, 2, array_length(exchanges.child_chain))) AS prior(hop)
    LEFT JOIN names ON prior.hop.subject = names.name
    WHERE prior.hop.subject IS NOT NULL
),
-- Whoever the parent names, and the exchanging party itself, where a producer writes the
-- innermost actor first.
accepted_names AS (
    SELECT exchanges.tenant_id, exchanges.child_key, earlier.hop.subject AS name
    FROM exchanges
    CROSS JOIN unnest(exchanges.parent_chain) AS earlier(hop)
    UNION
    SELECT tenant_id, child_key, parent_actor AS name FROM exchanges
    UNION
    SELECT tenant_id, child_key, parent_client AS name FROM exchanges
    UNION
    SELECT tenant_id, child_key, parent_subject AS name FROM exchanges
    UNION
    SELECT tenant_id, child_key, child_actor AS name FROM exchanges
    UNION
    SELECT tenant_id, child_key, child_client AS name FROM exchanges
),
accepted AS (
    SELECT DISTINCT
        accepted_names.tenant_id, accepted_names.child_key,
        coalesce(names.identity_id, accepted_names.name) AS party
    FROM accepted_names
    LEFT JOIN names ON accepted_names.name = names.name
    WHERE accepted_names.name IS NOT NULL
),
gateways AS (
    SELECT DISTINCT identity_id FROM reg_identities WHERE pass_through
),
foreign_actors AS (
    SELECT priors.tenant_id, priors.child_key, list_sort(list_distinct(list(priors.name))) AS actors
    FROM priors
    LEFT JOIN accepted
        ON priors.tenant_id = accepted.tenant_id AND priors.child_key = accepted.child_key
        AND priors.party = accepted.party
    LEFT JOIN gateways ON priors.party = gateways.identity_id
    WHERE accepted.party IS NULL AND gateways.identity_id IS NULL
    GROUP BY priors.tenant_id, priors.child_key
),
-- The same actors in an order that neither way of writing a chain gives.
reordered AS (
    SELECT tenant_id, child_key, list_transform(parent_chain, lambda hop: hop.subject) AS actors
    FROM exchanges
    WHERE array_length(parent_chain) > 1 AND array_length(child_chain) = array_length(parent_chain) + 1
        AND list_sort(list_transform(list_slice(child_chain, 2, array_length(child_chain)), lambda hop: hop.subject))
            = list_sort(list_transform(parent_chain, lambda hop: hop.subject))
        AND list_transform(list_slice(child_chain, 2, array_length(child_chain)), lambda hop: hop.subject)
            <> list_transform(parent_chain, lambda hop: hop.subject)
        AND list_transform(list_slice(child_chain, 1, array_length(parent_chain)), lambda hop: hop.subject)
            <> list_transform(parent_chain, lambda hop: hop.subject)
),
two_tokens AS (
    SELECT DISTINCT
        one.tenant_id, one.child_key, one.event_uid, one.event_time,
        one.parent_key AS subject_key, other.parent_key AS actor_key
    FROM named_parents AS one
    INNER JOIN named_parents AS other
        ON one.tenant_id = other.tenant_id AND one.event_uid = other.event_uid
    WHERE one.role = 'subject' AND other.role = 'actor'
        AND one.parent_key IS NOT NULL AND other.parent_key IS NOT NULL
        AND one.parent_key <> other.parent_key
),
-- Both tokens of each exchange, one row each: what they share is found by grouping, as
-- joining token with token by words that all of them know would be quadratic.
sides AS (
    SELECT tenant_id, child_key, event_uid, true AS is_subject, subject_key AS credential_key FROM two_tokens
    UNION ALL
    SELECT tenant_id, child_key, event_uid, false AS is_subject, actor_key AS credential_key FROM two_tokens
),
both_tokens AS (
    SELECT DISTINCT tenant_id, credential_key FROM sides
),
-- All by which two tokens could be found to belong together: what was going on, and for whom.
described AS (
    SELECT
        held.tenant_id, held.credential_key, held.event_uids, held.client_id, held.actor_id,
        held.subject_id, held.audience, held.may_act
    FROM both_tokens
    INNER JOIN credentials AS held
        ON both_tokens.tenant_id = held.tenant_id AND both_tokens.credential_key = held.credential_key
),
made AS (
    SELECT described.tenant_id, described.credential_key, item.event_uid
    FROM described
    CROSS JOIN unnest(described.event_uids) AS item(event_uid)
),
circumstances AS (
    SELECT
        made.tenant_id, made.credential_key, event.session_id, event.txn_id, event.task_id,
        event.consent_id, event.trace_id, event.family_id
    FROM made
    INNER JOIN token_events AS event ON made.tenant_id = event.tenant_id AND made.event_uid = event.event_uid
),
contexts AS (
    SELECT tenant_id, credential_key, 'session' AS kind, session_id AS context FROM circumstances WHERE session_id IS NOT NULL
    UNION
    SELECT tenant_id, credential_key, 'transaction' AS kind, txn_id AS context FROM circumstances WHERE txn_id IS NOT NULL
    UNION
    SELECT tenant_id, credential_key, 'task' AS kind, task_id AS context FROM circumstances WHERE task_id IS NOT NULL
    UNION
    SELECT tenant_id, credential_key, 'consent' AS kind, consent_id AS context FROM circumstances WHERE consent_id IS NOT NULL
    UNION
    SELECT tenant_id, credential_key, 'trace' AS kind, trace_id AS context FROM circumstances WHERE trace_id IS NOT NULL
    UNION
    SELECT tenant_id, credential_key, 'family' AS kind, family_id AS context FROM circumstances WHERE family_id IS NOT NULL
),
party_names AS (
    SELECT tenant_id, credential_key, client_id AS name, false AS is_audience FROM described
    UNION
    SELECT tenant_id, credential_key, actor_id AS name, false AS is_audience FROM described
    UNION
    SELECT tenant_id, credential_key, subject_id AS name, false AS is_audience FROM described
    UNION
    SELECT tenant_id, credential_key, item.name, true AS is_audience FROM described CROSS JOIN unnest(audience) AS item(name)
    UNION
    SELECT tenant_id, credential_key, item.party.subject AS name, false AS is_audience FROM described CROSS JOIN unnest(may_act) AS item(party)
),
parties AS (
    SELECT DISTINCT
        party_names.tenant_id, party_names.credential_key, party_names.is_audience,
        -- https://planner.acme.example and planner are compared by their words below.
        coalesce(names.identity_id, lower(party_names.name)) AS party
    FROM party_names
    LEFT JOIN names ON party_names.name = names.name
    WHERE party_names.name IS NOT NULL
),
-- Names are few, tokens many: each name is taken apart once.
words AS (
    SELECT DISTINCT whole.party, word.part
    FROM (SELECT DISTINCT party FROM parties) AS whole
    CROSS JOIN unnest([
        whole.party, regexp_replace(rtrim(whole.party, '/'), '^.*[/:]', ''),
        split_part(regexp_replace(whole.party, '^[a-z][a-z0-9+.-]*://', ''), '.', 1)
    ]) AS word(part)
    WHERE word.part <> ''
),
shared_contexts AS (
    SELECT sides.tenant_id, sides.child_key, sides.event_uid, contexts.kind, contexts.context
    FROM sides
    INNER JOIN contexts
        ON sides.tenant_id = contexts.tenant_id AND sides.credential_key = contexts.credential_key
    GROUP BY sides.tenant_id, sides.child_key, sides.event_uid, contexts.kind, contexts.context
    HAVING bool_or(sides.is_subject) AND bool_or(NOT sides.is_subject)
),
shared_words AS (
    SELECT sides.tenant_id, sides.child_key, sides.event_uid, words.part
    FROM sides
    INNER JOIN parties
        ON sides.tenant_id = parties.tenant_id AND sides.credential_key = parties.credential_key
    INNER JOIN words ON parties.party = words.party
    GROUP BY sides.tenant_id, sides.child_key, sides.event_uid, words.part
    HAVING bool_or(sides.is_subject) AND bool_or(NOT sides.is_subject)
        -- Being meant for the same server ties nobody to anybody.
        AND bool_or(NOT parties.is_audience)
),
requesters AS (
    SELECT
        two_tokens.tenant_id, two_tokens.child_key, two_tokens.actor_key,
        coalesce(names.identity_id, lower(requester.name)) AS party
    FROM two_tokens
    INNER JOIN credentials AS child
        ON two_tokens.tenant_id = child.tenant_id AND two_tokens.child_key = child.credential_key
    CROSS JOIN unnest([child.client_id, child.actor_id]) AS requester(name)
    LEFT JOIN names ON requester.name = names.name
    WHERE requester.name IS NOT NULL
),
tied AS (
    SELECT tenant_id, child_key FROM shared_contexts
    UNION
    SELECT tenant_id, child_key FROM shared_words
    UNION
    -- Whoever exchanges brings an actor token of its own: that is the relation of the two.
    SELECT requesters.tenant_id, requesters.child_key
    FROM requesters
    INNER JOIN parties AS own
        ON requesters.tenant_id = own.tenant_id AND requesters.actor_key = own.credential_key
        AND requesters.party = own.party
    WHERE NOT own.is_audience
),
-- Both must say to what they belong: what is not logged cannot be missing.
comparable_exchanges AS (
    SELECT sides.tenant_id, sides.child_key, sides.event_uid, contexts.kind
    FROM sides
    INNER JOIN contexts
        ON sides.tenant_id = contexts.tenant_id AND sides.credential_key = contexts.credential_key
    WHERE contexts.kind <> 'trace'
    GROUP BY sides.tenant_id, sides.child_key, sides.event_uid, contexts.kind
    HAVING bool_or(sides.is_subject) AND bool_or(NOT sides.is_subject)
),
comparable AS (
    SELECT DISTINCT tenant_id, child_key FROM comparable_exchanges
),
untied AS (
    SELECT two_tokens.*, held.issuer
    FROM two_tokens
    INNER JOIN credentials AS held
        ON two_tokens.tenant_id = held.tenant_id AND two_tokens.child_key = held.credential_key
    INNER JOIN comparable
        ON two_tokens.tenant_id = comparable.tenant_id AND two_tokens.child_key = comparable.child_key
    INNER JOIN rule_watermarks AS complete
        ON two_tokens.tenant_id = complete.tenant_id AND two_tokens.event_time < complete.watermark
    LEFT JOIN tied ON two_tokens.tenant_id = tied.tenant_id AND two_tokens.child_key = tied.child_key
    WHERE tied.child_key IS NULL
),
tied_exchanges AS (
    SELECT two_tokens.tenant_id, held.issuer, count(DISTINCT two_tokens.child_key) AS exchanges
    FROM two_tokens
    INNER JOIN tied ON two_tokens.tenant_id = tied.tenant_id AND two_tokens.child_key = tied.child_key
    INNER JOIN credentials AS held
        ON tied.tenant_id = held.tenant_id AND tied.child_key = held.credential_key
    GROUP BY two_tokens.tenant_id, held.issuer
),
-- An authorization server that seldom logs what ties them.
silent_issuers AS (
    SELECT untied.tenant_id, untied.issuer
    FROM untied
    LEFT JOIN tied_exchanges
        ON untied.tenant_id = tied_exchanges.tenant_id
        AND coalesce(untied.issuer, '') = coalesce(tied_exchanges.issuer, '')
    GROUP BY untied.tenant_id, untied.issuer
    HAVING count(DISTINCT untied.child_key) >= $untied_exchanges_min
        AND count(DISTINCT untied.child_key) > coalesce(max(tied_exchanges.exchanges), 0)
),
found AS (
    SELECT
        tenant_id, child_key, 1 AS place, 'hash' AS variant, 5 AS severity, event_time AS seen_at,
        parent_key, CAST(NULL AS VARCHAR) AS other_key, [event_uid] AS event_uids,
        list_append(known_digests, carried) AS shown
    FROM hashed
    UNION ALL
    SELECT
        foreign_actors.tenant_id, foreign_actors.child_key, 2 AS place, 'act' AS variant, 4 AS severity,
        exchanges.hop_time AS seen_at, exchanges.parent_key, CAST(NULL AS VARCHAR) AS other_key,
        exchanges.hop_events AS event_uids, foreign_actors.actors AS shown
    FROM foreign_actors
    INNER JOIN exchanges
        ON foreign_actors.tenant_id = exchanges.tenant_id AND foreign_actors.child_key = exchanges.child_key
    UNION ALL
    SELECT
        reordered.tenant_id, reordered.child_key, 2 AS place, 'order' AS variant, 4 AS severity,
        exchanges.hop_time AS seen_at, exchanges.parent_key, CAST(NULL AS VARCHAR) AS other_key,
        exchanges.hop_events AS event_uids, reordered.actors AS shown
    FROM reordered
    INNER JOIN exchanges
        ON reordered.tenant_id = exchanges.tenant_id AND reordered.child_key = exchanges.child_key
    UNION ALL
    SELECT
        untied.tenant_id, untied.child_key, 3 AS place, 'unrelated' AS variant, 2 AS severity,
        untied.event_time AS seen_at, untied.subject_key AS parent_key, untied.actor_key AS other_key,
        [untied.event_uid] AS event_uids, ['session', 'transaction', 'task', 'consent', 'client'] AS shown
    FROM untied
    LEFT JOIN silent_issuers
        ON untied.tenant_id = silent_issuers.tenant_id
        AND coalesce(untied.issuer, '') = coalesce(silent_issuers.issuer, '')
    WHERE silent_issuers.tenant_id IS NULL
),
worst AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY tenant_id, child_key ORDER BY place, seen_at, parent_key) AS rank
    FROM found
)
SELECT
    worst.tenant_id,
    worst.child_key,
    coalesce(child.actor_id, child.client_id, child.subject_id, child.id) AS entity,
    CASE worst.variant
        WHEN 'hash' THEN 'A token names another parent by its digest than the one it was made from'
        WHEN 'act' THEN 'A token carries earlier actors that its parent does not know: '
            || array_to_string(worst.shown, ', ')
        WHEN 'order' THEN 'A token carries the earlier actors of its parent in another order: '
            || array_to_string(worst.shown, ', ')
        ELSE 'Subject token and actor token of an exchange have nothing in common'
    END AS title,
    worst.severity,
    worst.variant,
    worst.child_key AS credential_key,
    CASE WHEN worst.variant = 'unrelated' THEN chain.confidence ELSE CAST(1 AS DOUBLE) END AS confidence,
    child.environment,
    child.observer,
    child.issuer,
    child.id AS token_id,
    worst.parent_key,
    worst.other_key,
    parent.id AS parent_id,
    parent.subject_id AS parent_subject,
    child.subject_id AS subject,
    worst.shown,
    worst.seen_at AS first_seen,
    worst.seen_at AS last_seen,
    list_sort(list_distinct(list_concat(
        list_concat(worst.event_uids, child.event_uids),
        list_concat(
            coalesce(parent.event_uids, CAST([] AS VARCHAR[])), coalesce(other.event_uids, CAST([] AS VARCHAR[]))
        )
    ))) AS event_uids
FROM worst
INNER JOIN credentials AS child ON worst.tenant_id = child.tenant_id AND worst.child_key = child.credential_key
LEFT JOIN credentials AS parent ON worst.tenant_id = parent.tenant_id AND worst.parent_key = parent.credential_key
LEFT JOIN credentials AS other ON worst.tenant_id = other.tenant_id AND worst.other_key = other.credential_key
LEFT JOIN chains AS chain ON worst.tenant_id = chain.tenant_id AND worst.child_key = chain.credential_key
WHERE worst.rank = 1
