-- The actors before the current one, oldest first.  Act chains arrive outermost first.
CREATE OR REPLACE TEMP MACRO earlier_actors(act_chain) AS list_filter(
    list_reverse(list_transform(act_chain[2:], lambda hop: hop.subject)), lambda name: name IS NOT NULL)
