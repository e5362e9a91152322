-- What calls show of the credential that they name: all there is of one never seen issued.
CREATE OR REPLACE TEMP TABLE used AS
SELECT
    named.credential_key,
    arg_min(obs.agent_id, (obs.event_time, obs.event_uid)) AS agent_id,
    arg_min(obs.agent_issuer, (obs.event_time, obs.event_uid)) AS agent_issuer,
    arg_min(obs.subject_id, (obs.event_time, obs.event_uid)) FILTER (obs.subject_id IS NOT NULL) AS subject_id,
    arg_min(obs.subject_issuer, (obs.event_time, obs.event_uid)) FILTER (obs.subject_id IS NOT NULL) AS subject_issuer,
    arg_min(obs.subject_identity, (obs.event_time, obs.event_uid)) FILTER (obs.subject_id IS NOT NULL) AS subject_identity,
    arg_min(obs.subject_namespace, (obs.event_time, obs.event_uid)) FILTER (obs.subject_id IS NOT NULL) AS subject_namespace,
    arg_min(obs.subject_kind, (obs.event_time, obs.event_uid)) FILTER (obs.subject_kind IS NOT NULL) AS subject_kind,
    arg_min(obs.presented_scopes, (obs.event_time, obs.event_uid)) FILTER (len(obs.presented_scopes) > 0) AS presented_scopes,
    arg_min(obs.presented_audience, (obs.event_time, obs.event_uid)) FILTER (len(obs.presented_audience) > 0) AS presented_audience,
    -- The best placed witness: a runtime may declare any history.
    arg_min(obs.act_chain, (-obs.evidence_rank, obs.event_time, obs.event_uid)) FILTER (len(obs.act_chain) > 0) AS act_chain,
    arg_min(obs.environment, (obs.event_time, obs.event_uid)) FILTER (obs.environment IS NOT NULL) AS environment,
    arg_min(obs.trust_domain, (obs.event_time, obs.event_uid)) FILTER (obs.trust_domain IS NOT NULL) AS trust_domain,
    arg_max(obs.evidence_class, (obs.evidence_rank, obs.evidence_class)) AS evidence_class,
    -- A key that somebody uses by himself besides was not made for these.
    coalesce(bool_and(obs.is_by_lent_key), false) AS is_lent
FROM obs
JOIN credential_ids AS named ON named.id_key = obs.own_id_key
GROUP BY named.credential_key
