-- From every top downwards, one level a round; each row carries what its chain has become.
CREATE OR REPLACE TEMP TABLE walk AS
WITH RECURSIVE down AS (
    SELECT
        cred.credential_key, cred.credential_key AS root_key,
        -- Actors without events of their own are asserted hops; they count towards the depth.
        len(counted_actors(cred.act_chain))::INTEGER AS depth, 0::INTEGER AS links,
        path_of(cred.subject_id, cred.act_chain, cred.acting) AS actor_path,
        [cred.credential_key] AS credential_path,
        1.0::DOUBLE AS confidence, 1.0::DOUBLE AS confidence_product,
        authority(cred.scopes) AS effective, cred.scope_known AS effective_known, true AS effective_is_own,
        authority(cred.scopes) AS grant_effective, cred.scope_known AS grant_known, true AS grant_is_own,
        []::VARCHAR[] AS consented,
        cred.expires_at AS effective_expires_at,
        0::INTEGER AS unknown_count, 0::INTEGER AS alternatives,
        false AS erased,
        len(cred.conflicts) > 0 AS contradicted,
        NULL::UUID AS revoked_ancestor_key, NULL::TIMESTAMPTZ AS cascade_revoked_at,
        CASE WHEN cred.trust_domain IS NULL THEN [] ELSE [cred.trust_domain] END AS trust_domains
    FROM cred
    WHERE cred.credential_key IN (SELECT credential_key FROM walk_roots)
    UNION ALL
    SELECT
        hop.child_key, down.root_key,
        -- Recorded actors that the path does not show yet are asserted hops here, too.
        (down.depth + CASE WHEN hop.actor_changed AND NOT hop.child_passes_through
                AND new_actor(down.actor_path, child.acting, child.actor_unknown) IS NOT NULL THEN 1 ELSE 0 END
            + len(list_filter(asserted_after(down.actor_path, earlier_actors(child.act_chain)),
                lambda name: NOT list_contains(getvariable('gateways'), name))))::INTEGER,
        down.links + 1,
        extend_path(down.actor_path, child.act_chain, new_actor(down.actor_path, child.acting, child.actor_unknown)),
        list_append(down.credential_path, hop.child_key),
        least(down.confidence, hop.confidence), down.confidence_product * hop.confidence,
        effective_after(hop.attenuation, hop.hop_kind = 'refresh', hop.compared_by, child.scopes, hop.dialect, child.issuer, child.audience, hop.widened_scopes,
            down.effective, down.effective_is_own, down.grant_effective, down.grant_is_own),
        child.scope_known AND hop.attenuation <> 'unknown'
            AND CASE WHEN hop.hop_kind = 'refresh' THEN down.grant_known ELSE down.effective_known END
            AND NOT (hop.compared_by = 'translation' AND NOT down.effective_is_own),
        hop.attenuation = 'covered'
            AND CASE WHEN hop.hop_kind = 'refresh' THEN down.grant_is_own ELSE down.effective_is_own END,
        CASE WHEN hop.hop_kind = 'refresh' THEN down.grant_effective
            ELSE effective_after(hop.attenuation, false, hop.compared_by, child.scopes, hop.dialect, child.issuer, child.audience, hop.widened_scopes,
                down.effective, down.effective_is_own, down.grant_effective, down.grant_is_own) END,
        CASE WHEN hop.hop_kind = 'refresh' THEN down.grant_known
            ELSE child.scope_known AND hop.attenuation <> 'unknown' AND down.effective_known
                AND NOT (hop.compared_by = 'translation' AND NOT down.effective_is_own) END,
        CASE WHEN hop.hop_kind = 'refresh' THEN down.grant_is_own
            ELSE hop.attenuation = 'covered' AND down.effective_is_own END,
        -- Consent given on the way holds for what is made after it.
        list_concat(down.consented, coalesce(hop.consent_scopes, [])),
        -- A refresh renews, a role session and a token for a foreign assertion start a life of
        -- their own, and a transaction token may outlive its subject token: the life of what
        -- came before does not bound them (domain reference, PC-11).
        CASE WHEN hop.hop_kind IN ('refresh', 'assume', 'assertion') OR is_txn_token(child.token_type)
            THEN child.expires_at
            ELSE least(down.effective_expires_at, child.expires_at) END,
        down.unknown_count + (CASE WHEN hop.attenuation = 'unknown' THEN 1 ELSE 0 END)::INTEGER,
        (down.alternatives + hop.alternatives)::INTEGER,
        down.erased OR coalesce(hop.erased, false),
        down.contradicted OR hop.contradicted OR len(child.conflicts) > 0,
        coalesce(CASE WHEN parent_revoked.revoked_at IS NOT NULL THEN hop.parent_key END, down.revoked_ancestor_key),
        -- A vault's orphan outlives whoever made it.
        CASE WHEN child.grant_type = 'token_create_orphan' THEN NULL::TIMESTAMPTZ
            ELSE least(parent_revoked.cascade_at, down.cascade_revoked_at) END,
        CASE WHEN child.trust_domain IS NULL OR child.trust_domain = down.trust_domains[len(down.trust_domains)]
            THEN down.trust_domains ELSE list_append(down.trust_domains, child.trust_domain) END
    FROM down
    JOIN hop ON hop.parent_key = down.credential_key
    JOIN cred AS child ON child.credential_key = hop.child_key
    LEFT JOIN revocations AS parent_revoked ON parent_revoked.credential_key = hop.parent_key
)
SELECT * FROM down
