-- A delegated credential stays valid after the one that it was made from has ended.
--
-- One row per child.  A refresh, a transaction token and an assumed role outlive their parent
-- by design and are left out, as is the token got for an identity assertion of five minutes.
-- Materialised: pushed into the join, the comparison makes the planner pair all credentials first.
WITH compared AS MATERIALIZED (
    SELECT
        hop.tenant_id, hop.child_key, hop.parent_key, hop.delegator, hop.delegate, hop.hop_kind,
        hop.method, hop.hop_time, hop.event_uids AS hop_events,
        child.expires_at AS child_expires_at, child.never_expires AS child_never_expires,
        parent.expires_at AS parent_expires_at,
        child.issuer, child.audience, child.environment, child.observer,
        child.event_uids AS child_events, parent.event_uids AS parent_events,
        coalesce(child.from_trust_domain <> child.to_trust_domain, false)
            OR coalesce(child.trust_domain <> parent.trust_domain, false) AS cross_domain,
        CASE WHEN child.source = parent.source THEN $skew_same_s ELSE $skew_cross_s END AS tolerance_s,
        epoch(child.expires_at) - epoch(parent.expires_at) AS beyond_s
    FROM hops AS hop
    INNER JOIN credentials AS child
        ON hop.tenant_id = child.tenant_id AND hop.child_key = child.credential_key
    INNER JOIN credentials AS parent
        ON hop.tenant_id = parent.tenant_id AND hop.parent_key = parent.credential_key
    WHERE hop.hop_kind IN ('exchange', 'delegate')
        AND parent.expires_at IS NOT NULL
        AND NOT coalesce(parent.never_expires, false)
        AND NOT (
            ends_with(lower(coalesce(child.token_type, '')), 'txn_token')
            OR ends_with(lower(coalesce(child.token_type, '')), 'txn-token')
        )
)
SELECT
    compared.tenant_id,
    compared.child_key,
    coalesce(compared.delegate, compared.child_key) AS entity,
    coalesce(compared.delegate, 'unknown') || CASE WHEN compared.child_never_expires
        THEN ' holds a credential without end made from one that ends'
        ELSE ' holds a credential that outlives its parent by '
            || CAST(CAST(compared.beyond_s AS BIGINT) AS VARCHAR) || ' s'
    END AS title,
    CASE WHEN compared.child_never_expires OR compared.beyond_s > $long_s THEN 3 ELSE 2 END AS severity,
    chain.confidence,
    chain.confidence AS chain_confidence,
    compared.child_key AS credential_key,
    compared.cross_domain,
    compared.environment,
    compared.observer,
    compared.delegator,
    compared.delegate,
    compared.hop_kind,
    compared.method,
    compared.parent_key,
    compared.issuer,
    compared.audience,
    compared.child_expires_at,
    compared.parent_expires_at,
    compared.beyond_s,
    compared.hop_time AS first_seen,
    compared.hop_time AS last_seen,
    list_sort(list_distinct(list_concat(
        compared.hop_events, list_concat(compared.child_events, compared.parent_events)
    ))) AS event_uids
FROM compared
INNER JOIN chains AS chain ON compared.child_key = chain.credential_key
WHERE compared.child_never_expires OR compared.beyond_s > compared.tolerance_s
