-- Every view and column with its documentation.
CREATE OR REPLACE MACRO help() AS TABLE
SELECT
    v.view_name AS view,
    c.column_name AS "column",
    c.data_type AS type,
    coalesce(c.comment, '') AS doc
FROM duckdb_views() AS v
INNER JOIN duckdb_columns() AS c
    ON v.view_name = c.table_name AND v.schema_name = c.schema_name
WHERE v.schema_name = 'main' AND NOT v.internal
UNION ALL
SELECT v.view_name, '', '', coalesce(v.comment, '')
FROM duckdb_views() AS v
WHERE v.schema_name = 'main' AND NOT v.internal
ORDER BY 1, "column" = '' DESC, "column"
