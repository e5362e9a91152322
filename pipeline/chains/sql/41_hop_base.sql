-- Each canonical link with the two sides whose scopes are compared.
CREATE OR REPLACE TEMP TABLE hop_base AS
SELECT
    links.*,
    CASE
        WHEN links.role = 'assertion' THEN 'assertion'
        WHEN links.role = 'refresh' OR links.method = 'P4' OR child.issue_op = 'refresh' THEN 'refresh'
        -- Some servers log an exchange as an issuance: the subject token that it names tells.
        WHEN links.role = 'subject' AND child.issue_op = 'issue' AND NOT child.is_interactive THEN 'exchange'
        ELSE coalesce(child.issue_op, 'issue')
    END AS hop_kind,
    coalesce(original.grant_key, links.parent_key) AS compared_key,
    CASE WHEN original.grant_key IS NOT NULL THEN 'original_grant' ELSE 'parent' END AS compared_with,
    child.scope_dialect AS child_dialect,
    coalesce(child.scope_dialect, base.scope_dialect) AS dialect,
    child.issuer AS child_issuer, child.audience AS child_audience,
    child.scopes AS child_scopes, child.scope_known AS child_known,
    base.issuer AS parent_issuer, base.audience AS parent_audience,
    base.scopes AS parent_scopes, base.scope_known AS parent_known,
    -- The consent behind the child, where one was recorded before it was made.
    consent.scopes AS consent_scopes,
    child.acting AS child_acting,
    child_actor.identity_id IS DISTINCT FROM parent_actor.identity_id AS actor_changed,
    coalesce(child_actor.pass_through, false) AS child_passes_through,
    (child.subject_id IS NULL AND parent.subject_id IS NOT NULL AND child.issue_op IS NOT NULL)
        OR (child.subject_identity <> parent.subject_identity
            AND NOT EXISTS (
                SELECT 1 FROM reg_identity_maps AS map
                WHERE map.from_subject = parent.subject_id AND map.to_subject = child.subject_id
                    AND (map.from_issuer IS NULL OR map.from_issuer = coalesce(parent.subject_issuer, parent.issuer))
                    AND (map.to_issuer IS NULL OR map.to_issuer = coalesce(child.subject_issuer, child.issuer))
            )) AS subject_changed,
    -- Impersonation that names its actor (Kubernetes) hides nobody; a client that differs from
    -- the subject stands for the actor (domain reference BT-03).
    (child.actor_convention = 'impersonation' AND child.actor_id IS NULL AND len(child.act_chain) = 0)
        OR (child.issue_op = 'exchange' AND child.actor_unknown)
        OR (child.issue_op = 'exchange' AND coalesce(child.actor_convention, 'act') = 'act'
            AND NOT child.act_truncated AND child.act_malformed_reason IS NULL
            AND (len(counted_actors(child.act_chain)) < len(counted_actors(parent.act_chain))
                -- The new actor took the place of the one before it; a transaction token is for
                -- all workloads of its transaction, and names the one that asked.
                OR (len(counted_actors(child.act_chain)) = len(counted_actors(parent.act_chain)) AND len(child.act_chain) > 0
                    AND child_actor.identity_id <> parent_actor.identity_id
                    AND NOT child_actor.pass_through AND NOT parent_actor.pass_through
                    AND NOT is_txn_token(child.token_type)
                    AND NOT coalesce(child.txn_id = parent.txn_id, false)
                    AND list_transform(child.act_chain, lambda hop: hop.subject) <> list_transform(parent.act_chain, lambda hop: hop.subject))))
        AS erased
FROM links
JOIN cred AS child ON child.credential_key = links.child_key
JOIN cred AS parent ON parent.credential_key = links.parent_key
LEFT JOIN actors AS child_actor ON child_actor.acting = child.acting
LEFT JOIN actors AS parent_actor ON parent_actor.acting = parent.acting
LEFT JOIN original_grants AS original ON original.child_key = links.child_key
JOIN cred AS base ON base.credential_key = coalesce(original.grant_key, links.parent_key)
LEFT JOIN consents AS consent ON consent.tenant_id = child.tenant_id
    AND consent.consent_id = child.consent_id
    AND consent.consent_id IS DISTINCT FROM base.consent_id
    AND consent.granted_at <= child.made_at + INTERVAL 120 SECOND
