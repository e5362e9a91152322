-- Calls and issuances that say what kind of content triggered them.
SELECT
    (SELECT count(*) FROM calls WHERE instruction_source IS NOT NULL)
    + (SELECT count(*) FROM credentials WHERE instruction_source IS NOT NULL) AS examined
