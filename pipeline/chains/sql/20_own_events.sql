-- Token events by credential, best evidence first: an issuance before a use, an issuer before
-- an observer, then the earliest.
CREATE OR REPLACE TEMP TABLE own_events AS
SELECT
    named.credential_key,
    tok.*,
    row_number() OVER (
        PARTITION BY named.credential_key
        ORDER BY is_issue DESC, evidence_rank DESC, tok.event_time, event_uid
    ) AS preference
FROM tok
JOIN credential_ids AS named ON named.id_key = tok.own_id_key
WHERE tok.outcome = 'success'
