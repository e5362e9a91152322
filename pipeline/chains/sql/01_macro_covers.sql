-- Does one granted scope cover one asked scope?  2 yes, 1 unknown, 0 no (domain reference
-- 3.1.3).  Implication comes from the registry, never from the spelling; a scope that merely
-- looks like a wildcard, where nobody named a dialect, is unknown.
CREATE OR REPLACE TEMP MACRO covers(dialect, issuer, audience, granted, asked) AS CASE
    WHEN granted = asked THEN 2
    WHEN len(getvariable('implications')) > 0 AND len(list_filter(
        list_append(CASE WHEN len(audience) = 0 THEN [''] ELSE audience END, '*'), lambda place:
        list_contains(getvariable('implications'), concat(issuer, chr(31), place, chr(31), granted, chr(31), asked))
        OR list_contains(getvariable('implications'), concat('*', chr(31), place, chr(31), granted, chr(31), asked)))) > 0
        THEN 2
    WHEN dialect = 'dot' THEN CASE WHEN ends_with(granted, '.*') AND length(asked) >= length(granted)
        AND starts_with(asked, left(granted, length(granted) - 1)) THEN 2 ELSE 0 END
    WHEN dialect = 'colon' THEN CASE
        WHEN granted = '*' THEN CASE WHEN list_contains(getvariable('bare_wildcard_issuers'), issuer) THEN 2 ELSE 0 END
        WHEN ends_with(granted, ':*') AND length(asked) >= length(granted)
            AND starts_with(asked, left(granted, length(granted) - 1)) THEN 2 ELSE 0 END
    WHEN dialect = 'aws' THEN CASE
        WHEN granted = '*' THEN 2
        -- A policy name or ARN says nothing without the policy's content.
        WHEN NOT regexp_full_match(granted, '[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+')
            OR NOT (asked = '*' OR regexp_full_match(asked, '[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+')) THEN 1
        WHEN regexp_full_match(lower(asked), replace(replace(lower(granted), '*', '.*'), '?', '.'))
            THEN CASE WHEN contains(granted, '?') AND contains(asked, '*') THEN 1 ELSE 2 END
        ELSE 0 END
    WHEN dialect = 'policy' THEN 1
    WHEN list_contains(getvariable('hierarchy_issuers'), issuer) THEN 1
    WHEN dialect IS NULL AND granted = '*' THEN 1
    WHEN dialect IS NULL AND (ends_with(granted, '.*') OR ends_with(granted, ':*') OR ends_with(granted, '/*'))
        AND length(asked) >= length(granted) AND starts_with(asked, left(granted, length(granted) - 1)) THEN 1
    ELSE 0 END
