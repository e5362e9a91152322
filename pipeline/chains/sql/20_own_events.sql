-- Token events by credential, best evidence first: an issuance before a use, an issuer before
-- an observer, then the earliest.  Most credentials have one event, their issuance.
CREATE OR REPLACE TEMP TABLE own_events AS
SELECT
    named.credential_key,
    tok.*,
    is_issue AND count(*) OVER (PARTITION BY named.credential_key) = 1 AS is_only
FROM tok
JOIN credential_ids AS named ON named.id_key = tok.own_id_key
WHERE tok.outcome = 'success'
