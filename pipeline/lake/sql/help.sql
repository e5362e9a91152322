-- Every view and, below it, every column with its documentation.
CREATE OR REPLACE MACRO help() AS TABLE
SELECT d.view, d."column", d.type, d.doc
FROM (
    SELECT
        c.table_name AS view,
        c.column_index AS place,
        c.column_name AS "column",
        c.data_type AS type,
        coalesce(c.comment, '') AS doc
    FROM duckdb_columns() AS c
    WHERE
        c.schema_name = 'main'
        AND c.table_name IN (
            SELECT w.view_name FROM duckdb_views() AS w WHERE w.schema_name = 'main' AND NOT w.internal
        )
    UNION ALL
    SELECT v.view_name, 0, '', '', coalesce(v.comment, '')
    FROM duckdb_views() AS v
    WHERE v.schema_name = 'main' AND NOT v.internal
) AS d
ORDER BY d.view, d.place
