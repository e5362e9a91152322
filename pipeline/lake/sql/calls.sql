-- One tool call with the chain behind it, as of the last build of the chains.
SELECT
    call.*,
    link.call_key,
    link.observations,
    link.credential_key,
    link.method AS link_method,
    link.confidence AS link_confidence,
    link.evidence_class AS link_evidence_class,
    link.scope_coverage,
    link.missing_scopes,
    chain.root_key,
    chain.root_kind,
    chain.root_principal,
    chain.root_principal_issuer,
    chain.depth,
    chain.links,
    chain.actor_path,
    chain.credential_path,
    chain.effective_scopes,
    chain.effective_scope_known,
    chain.effective_expires_at,
    chain.end_kind,
    -- The link to the credential is the last one of the call's chain.
    CASE WHEN chain.status = 'complete' AND link.confidence < 0.80 THEN 'complete_probable' ELSE chain.status END AS status,
    least(chain.confidence, link.confidence) AS confidence,
    chain.confidence_product * link.confidence AS confidence_product,
    chain.gap_kind,
    chain.unknown_count,
    chain.trust_domains
FROM tool_calls AS call
-- The date prunes files; an observation and its link always share it.
INNER JOIN call_links AS link
    ON call.event_uid = link.event_uid AND call.event_date = link.event_date
LEFT JOIN chains AS chain
    ON link.credential_key = chain.credential_key AND link.tenant_id = chain.tenant_id
WHERE link.is_primary
