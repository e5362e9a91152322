-- One round of the union: the smallest label among the neighbours.
CREATE OR REPLACE TEMP TABLE alias_labels_next AS
SELECT mine.id_key, least(mine.label, min(other.label)) AS label
FROM alias_labels AS mine
JOIN (SELECT a, b FROM alias_edges UNION ALL SELECT b, a FROM alias_edges) AS edge(a, b)
    ON edge.a = mine.id_key
JOIN alias_labels AS other ON other.id_key = edge.b
GROUP BY mine.id_key, mine.label
