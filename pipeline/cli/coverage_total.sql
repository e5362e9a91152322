SELECT
    coalesce(sum(events), 0) AS events,
    coalesce(sum(calls), 0) AS calls,
    sum(linked * calls) / nullif(sum(calls), 0) AS linked,
    sum(complete * calls) / nullif(sum(calls), 0) AS complete,
    sum(broken * calls) / nullif(sum(calls), 0) AS broken,
    max(last_event_time) AS last_event_time,
    (SELECT count(*) FROM dead_letters) AS dead_letters
FROM coverage
