-- P4 to P10: the parent that fits.  `rivals` is how many fit by that method.
CREATE OR REPLACE TEMP TABLE inferred_parents AS
WITH made AS (
    SELECT tenant_id, issuer, family_id, consent_id, credential_key, made_at, issue_op IN ('refresh', 'rotate') AS is_renewal
    FROM cred WHERE seen_issued AND (family_id IS NOT NULL OR consent_id IS NOT NULL)
),
grants AS (
    SELECT tenant_id, issuer, family_id, arg_min(credential_key, (made_at, credential_key)) AS credential_key,
        arg_min(credential_key, (made_at, credential_key)) FILTER (NOT is_renewal) AS granted_key,
        min(made_at) FILTER (NOT is_renewal) AS granted_at
    FROM made WHERE family_id IS NOT NULL
    GROUP BY tenant_id, issuer, family_id
),
consented AS (
    SELECT tenant_id, issuer, consent_id, arg_min(credential_key, (made_at, credential_key)) AS credential_key,
        arg_min(credential_key, (made_at, credential_key)) FILTER (NOT is_renewal) AS granted_key,
        min(made_at) FILTER (NOT is_renewal) AS granted_at
    FROM made WHERE consent_id IS NOT NULL
    GROUP BY tenant_id, issuer, consent_id
),
-- P6: the child's history is the parent's present, and the requester held the parent.
by_history AS (
    SELECT child.credential_key AS child_key, parent.credential_key AS parent_key,
        coalesce(acting.identity_id, child.acting) AS acting_identity,
        coalesce(client.identity_id, child.client_id) AS client_identity,
        parent.audience, parent.client_id AS parent_client,
        len(list_filter(parent.audience, lambda one: names_party(one, child.acting) OR names_party(one, child.client_id))) > 0
            OR coalesce(parent.client_id IN (child.acting, child.client_id), false)
            OR (len(parent.audience) = 0 AND parent.client_id IS NULL) AS names_requester,
        CASE WHEN len(list_filter(list_concat(child.act_chain, parent.act_chain), lambda hop: hop.issuer IS NULL)) = 0
            THEN 0.75 ELSE 0.60 END AS confidence
    FROM orphans AS child
    JOIN cred AS parent ON parent.tenant_id = child.tenant_id AND parent.subject_identity = child.subject_identity
    LEFT JOIN agent_lookup AS acting ON acting.name = child.acting
    LEFT JOIN agent_lookup AS client ON client.name = child.client_id
    WHERE len(child.act_chain) > 0 AND parent.has_events
        AND same_subject(child.subject_identity, child.subject_namespace, parent.subject_identity, parent.subject_namespace)
        AND is_history(child.act_chain[2:], parent.act_chain)
        AND was_valid(parent.made_at, parent.expires_at, child.made_at)
),
found AS (
    SELECT child.credential_key AS child_key, parent.credential_key AS parent_key, 'P4' AS method, 0.95 AS confidence
    FROM orphans AS child JOIN grants AS parent USING (tenant_id, issuer, family_id)
    WHERE child.issue_op = 'refresh'
    UNION ALL
    SELECT child.credential_key, parent.credential_key, 'P4', 0.95
    FROM orphans AS child JOIN consented AS parent USING (tenant_id, issuer, consent_id)
    WHERE child.issue_op = 'refresh' AND child.family_id IS NULL
    UNION ALL
    -- A refresh token that no event issues came with the grant, before it was first shown.
    SELECT child.credential_key, parent.granted_key, 'P4', 0.95
    FROM orphans AS child
    JOIN grants AS parent ON parent.tenant_id = child.tenant_id AND parent.issuer = child.grant_issuer
        AND parent.family_id = child.family_id
    WHERE child.was_renewed AND parent.granted_at < child.made_at
    UNION ALL
    SELECT child.credential_key, parent.granted_key, 'P4', 0.95
    FROM orphans AS child
    JOIN consented AS parent ON parent.tenant_id = child.tenant_id AND parent.issuer = child.grant_issuer
        AND parent.consent_id = child.consent_id
    WHERE child.was_renewed AND child.family_id IS NULL AND parent.granted_at < child.made_at
    UNION ALL
    SELECT child.credential_key, parent.credential_key, 'P5',
        CASE WHEN child.evidence_class = 'self_reported' THEN 0.70 ELSE 0.90 END
    FROM orphans AS child
    JOIN cred AS parent ON parent.tenant_id = child.tenant_id AND parent.id = child.delegation_record_id
        AND parent.issue_op = 'delegate'
    UNION ALL
    SELECT child_key, parent_key, 'P6', confidence FROM by_history
    WHERE names_requester OR EXISTS (
        -- The audience may be another registered name of the requester.
        SELECT 1
        FROM (SELECT unnest(list_append(by_history.audience, by_history.parent_client)) AS name) AS meant
        LEFT JOIN agent_lookup AS known ON known.name = meant.name
        WHERE coalesce(known.identity_id, meant.name) IN (by_history.acting_identity, by_history.client_identity))
    UNION ALL
    SELECT child.credential_key, parent.credential_key, 'P7', 0.70
    FROM orphans AS child
    JOIN cred AS parent ON parent.tenant_id = child.tenant_id AND parent.txn_id = child.txn_id
        AND parent.subject_identity = child.subject_identity
    WHERE parent.made_at < child.made_at
        AND same_subject(child.subject_identity, child.subject_namespace, parent.subject_identity, parent.subject_namespace)
    UNION ALL
    SELECT * FROM (
        -- P8: CloudTrail does not log the id of the web identity token.
        SELECT child.credential_key, parent.credential_key, 'P8', 0.60
        FROM orphans AS child
        JOIN cred AS parent ON parent.tenant_id = child.tenant_id
            AND parent.subject_identity = child.subject_identity AND parent.kind <> 'access_key_id'
        -- The nearest earlier one; the child itself is not its own token.
        WHERE parent.credential_key <> child.credential_key AND parent.made_at <= child.made_at
            AND child.issue_op = 'assume' AND len(child.audience) > 0 AND parent.has_events
            AND len(list_filter(child.audience, lambda one: list_contains(parent.audience, one))) > 0
            AND was_valid(parent.made_at, parent.expires_at, child.made_at)
            AND same_subject(child.subject_identity, child.subject_namespace, parent.subject_identity, parent.subject_namespace)
        QUALIFY row_number() OVER (PARTITION BY child.credential_key
            ORDER BY parent.made_at DESC, parent.credential_key) = 1
    ) AS nearest
    UNION ALL
    SELECT * FROM (
        SELECT child.credential_key, parent.credential_key, 'P9', 0.50
        FROM orphans AS child
        JOIN cred AS parent ON parent.tenant_id = child.tenant_id AND parent.trace_id = child.trace_id
        WHERE parent.made_at < child.made_at
            AND (list_contains(parent.audience, child.acting) OR parent.acting = child.acting
                OR parent.client_id = child.client_id)
        QUALIFY row_number() OVER (PARTITION BY child.credential_key
            ORDER BY parent.made_at DESC, parent.credential_key) = 1
    ) AS nearest
    UNION ALL
    SELECT child.credential_key, parent.credential_key, 'P10', 0.35
    FROM orphans AS child
    JOIN cred AS parent ON parent.tenant_id = child.tenant_id AND parent.session_id = child.session_id
        AND parent.client_id = child.client_id AND parent.subject_identity = child.subject_identity
    WHERE parent.made_at < child.made_at AND child.made_at - parent.made_at <= INTERVAL 10 MINUTE
        AND same_subject(child.subject_identity, child.subject_namespace, parent.subject_identity, parent.subject_namespace)
)
SELECT *, count(*) OVER (PARTITION BY child_key, method) AS rivals
FROM found
WHERE child_key <> parent_key
