-- The versions of the derived tables that belong together.
SET VARIABLE dg_published = (
    SELECT max_by(versions, publication_id) FROM read_parquet(getvariable('dg_files_publications'))
);
