-- What two scope sets both allow, wildcards read by the dialect.
CREATE OR REPLACE TEMP MACRO intersect_scopes(dialect, issuer, audience, granted, asked) AS list_sort(list_distinct(list_concat(
    list_filter(asked, lambda a: len(list_filter(granted, lambda g: covers(dialect, issuer, audience, g, a) = 2)) > 0),
    list_filter(granted, lambda g: len(list_filter(asked, lambda a: covers(dialect, issuer, audience, a, g) = 2)) > 0))))
