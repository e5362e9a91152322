-- What every source written as SQL may use; each takes text as json_transform gives it.

-- A text without blanks around it, null where nothing is left.
CREATE MACRO text_of(value) AS nullif(trim(value), '');

-- A time: RFC 3339 (no zone means UTC), or seconds, milli-, micro- or nanoseconds since 1970.
CREATE MACRO moment_of(value) AS CASE
    WHEN regexp_full_match(trim(value), '-?[0-9]{1,20}([.][0-9]*)?') THEN CASE
        WHEN abs(TRY_CAST(value AS DOUBLE)) < 1e11
            THEN TRY(make_timestamptz(CAST(TRY_CAST(value AS DECIMAL(38, 6)) * 1000000 AS BIGINT)))
        WHEN abs(TRY_CAST(value AS DOUBLE)) < 1e14
            THEN TRY(make_timestamptz(CAST(TRY_CAST(value AS DECIMAL(38, 6)) * 1000 AS BIGINT)))
        WHEN abs(TRY_CAST(value AS DOUBLE)) < 1e17
            THEN TRY(make_timestamptz(TRY_CAST(split_part(value, '.', 1) AS BIGINT)))
        ELSE TRY(make_timestamptz(TRY_CAST(split_part(value, '.', 1) AS BIGINT) // 1000))
    END
    WHEN regexp_matches(value, '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]') THEN TRY_CAST(trim(value) AS TIMESTAMPTZ)
END;

-- The same of a source that writes RFC 3339 only: a plan full of the above costs more than its rows.
CREATE MACRO written_moment_of(value) AS CASE
    WHEN value SIMILAR TO '[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+' THEN TRY_CAST(value AS TIMESTAMPTZ)
END;

-- Scopes as a list: a JSON list of texts, or one text with blanks between them; null says nothing.
CREATE MACRO words_of(value) AS CASE
    WHEN value IS NULL OR trim(value) IN ('', 'null') THEN NULL
    WHEN starts_with(trim(value), '[') THEN list_filter(
        TRY(CAST(CAST(value AS JSON) AS VARCHAR[])), lambda x: x IS NOT NULL AND x <> ''
    )
    ELSE list_filter(string_split_regex(trim(value), '\s+'), lambda x: x <> '')
END;

-- The map for `ext`: pairs without a value are left out.
CREATE MACRO ext_of(names, texts) AS map_from_entries(list_filter(
    list_zip(names, texts), lambda pair: pair[2] IS NOT NULL AND pair[2] <> ''
));

-- A SHA-256 in hexadecimal digits as `x5t#S256` writes it; what is none stays as it is.
CREATE MACRO thumbprint_of(digits) AS coalesce(
    rtrim(translate(base64(TRY(unhex(digits))), '+/', '-_'), '='), digits
);

-- A text that is a name or a number: null where it is a JSON object or list, which may hold anything.
CREATE MACRO plain_of(value) AS CASE
    WHEN regexp_matches(value, '^\s*[\[{]') AND json_valid(value) THEN NULL ELSE nullif(trim(value), '')
END;

-- A list of texts of a JSON list or of one text, parted where a separator is given; null says nothing.
CREATE MACRO texts_of(value, separator) AS CASE
    WHEN text_of(value) IS NULL THEN NULL
    WHEN starts_with(trim(value), '[') AND json_valid(value) THEN list_filter(
        list_transform(TRY(CAST(CAST(value AS JSON) AS VARCHAR[])), lambda x: plain_of(x)), lambda x: x IS NOT NULL
    )
    WHEN plain_of(value) IS NULL THEN NULL
    WHEN separator IS NULL THEN [text_of(value)]
    ELSE list_filter(list_transform(string_split(value, separator), lambda x: text_of(x)), lambda x: x IS NOT NULL)
END;

-- A time in milliseconds since 1970, or in RFC 3339.  A number that would be no year of ours as
-- milliseconds is one of seconds, micro- or nanoseconds, which some producers write in their place.
CREATE MACRO millis_of(value) AS CASE
    WHEN value SIMILAR TO '[0-9]{12,14}' THEN make_timestamptz(TRY_CAST(value AS BIGINT) * 1000)
    WHEN value SIMILAR TO '[0-9]{1,19}' THEN TRY(make_timestamptz(CASE
        WHEN length(value) < 12 THEN TRY_CAST(value AS BIGINT) * 1000000
        WHEN length(value) < 18 THEN TRY_CAST(value AS BIGINT)
        ELSE TRY_CAST(value AS BIGINT) // 1000
    END))
    WHEN value SIMILAR TO '[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+' THEN TRY_CAST(value AS TIMESTAMPTZ)
END;

-- A digest that a vendor made, null where a field of that name holds something else.
CREATE MACRO sha256_of(value) AS CASE WHEN regexp_full_match(value, '(sha-?256:)?[0-9A-Fa-f]{64}') THEN value END;
