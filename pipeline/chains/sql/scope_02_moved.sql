-- Did the context move: a source that reaches further back, or an issuer that reaches us now?
SELECT
    (SELECT count(*) FROM (
        SELECT tenant_id, source, first_event_time, has_token_events FROM watermarks_now
        EXCEPT
        SELECT tenant_id, source, first_event_time, has_token_events FROM prev_watermarks
    ) AS changed)
    + (SELECT count(*) FROM (
        SELECT tenant_id, issuer, kind FROM issuer_reach
        EXCEPT
        SELECT tenant_id, issuer, kind FROM prev_credentials WHERE seen_issued
    ) AS appeared)
