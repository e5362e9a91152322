-- Id to credential.  A set is named by its best id: one under which it was issued, then by
-- kind, then by key; so the name does not depend on the order of arrival.
CREATE OR REPLACE TEMP TABLE credential_ids AS
WITH labelled AS (
    SELECT
        ids.*,
        CASE WHEN conflict.label IS NULL THEN coalesce(alias.label, ids.id_key) ELSE ids.id_key END
            AS label,
        conflict.reasons
    FROM ids
    LEFT JOIN alias_labels AS alias USING (id_key)
    LEFT JOIN alias_conflicts AS conflict ON conflict.label = alias.label
)
SELECT
    labelled.*,
    first_value(id_key) OVER (
        PARTITION BY label ORDER BY NOT seen_issued, kind_rank(kind), id_key
    ) AS credential_key
FROM labelled
