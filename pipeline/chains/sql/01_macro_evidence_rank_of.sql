CREATE OR REPLACE TEMP MACRO evidence_rank_of(observer) AS
    evidence_class_rank(evidence_class_of(observer))
