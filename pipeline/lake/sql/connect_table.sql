-- The files of $table: newest checkpoint, then the log entries behind it; the last action wins.
SET VARIABLE dg_checkpoint = (
    SELECT max(file)
    FROM glob($log || '/*.checkpoint.parquet')
    WHERE CAST(regexp_extract(file, '(\d{20})\.checkpoint', 1) AS BIGINT) <= $last
);
SET VARIABLE dg_entries = (
    -- The marker holds no action: it stands in where there is no entry to read.
    SELECT list_append(coalesce(list(file), []), $marker)
    FROM glob($log || '/*.json')
    WHERE
        CAST(regexp_extract(file, '(\d{20})\.json', 1) AS BIGINT)
        BETWEEN CAST(regexp_extract(getvariable('dg_checkpoint'), '(\d{20})\.checkpoint', 1) AS BIGINT) + 1
        AND $last
);
SET VARIABLE $files = (
    WITH actions AS (
        SELECT 0 AS entry, add.path AS added, remove.path AS removed
        FROM read_parquet(getvariable('dg_checkpoint'))
        UNION ALL
        SELECT
            coalesce(try_cast(regexp_extract(filename, '(\d{20})\.json', 1) AS BIGINT), 0) + 1,
            add.path,
            remove.path
        FROM read_json(
            getvariable('dg_entries'),
            format = 'newline_delimited',
            filename = true,
            columns = {add: 'STRUCT(path VARCHAR)', remove: 'STRUCT(path VARCHAR)'}
        )
    ),

    paths AS (
        SELECT coalesce(added, removed) AS path, arg_max(added IS NOT NULL, entry) AS active
        FROM actions
        WHERE coalesce(added, removed) IS NOT NULL
        GROUP BY coalesce(added, removed)
    )

    SELECT list_prepend($template, coalesce(list($folder || '/' || url_decode(path) ORDER BY path), []))
    FROM paths
    WHERE active
);
