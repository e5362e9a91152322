-- Are these the actors of the parent?  Compared hop by hop, with their issuers where both say one.
CREATE OR REPLACE TEMP MACRO is_history(earlier, actors) AS
    list_transform(earlier, lambda hop: hop.subject) = list_transform(actors, lambda hop: hop.subject)
    AND len(list_filter(list_zip(earlier, actors), lambda pair: pair[1].issuer <> pair[2].issuer)) = 0
