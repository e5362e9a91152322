-- What was done with the credential, one line per tool and target.
SELECT
    tool_name, coalesce(resource, tool_server) AS target, agent_id, count(*) AS calls,
    count(*) FILTER (outcome = 'success') AS succeeded,
    count(*) FILTER (outcome = 'denied') AS denied,
    list_sort(list_distinct(flatten(list(missing_scopes)))) AS missing_scopes,
    min(event_time) AS first_seen, max(event_time) AS last_seen, min(link_method) AS link_method,
    min(link_confidence) AS link_confidence, min(event_uid) AS event_uid
FROM calls
WHERE credential_key = $key AND ($event_uid IS NULL OR event_uid = $event_uid)
GROUP BY tool_name, coalesce(resource, tool_server), agent_id
ORDER BY max(len(calls.missing_scopes)) DESC, calls DESC, tool_name, target
