-- The actors of an act claim that count: gateways and sidecars are nobody.
CREATE OR REPLACE TEMP MACRO counted_actors(act_chain) AS list_filter(act_chain,
    lambda one: NOT coalesce(list_contains(getvariable('gateways'), one.subject), false))
