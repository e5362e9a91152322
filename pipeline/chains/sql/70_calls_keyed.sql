-- Observations of one call get one key.  A short call id (a JSON-RPC counter) says something
-- only inside its trace or session; records of one source and phase are never merged.
CREATE OR REPLACE TEMP TABLE keyed_obs AS
WITH fielded AS (
    SELECT *,
        CASE
            WHEN call_id IS NULL THEN event_uid
            WHEN length(call_id) >= 16 THEN concat('call:', tenant_id, chr(31), call_id)
            ELSE concat('call:', tenant_id, chr(31), call_id, chr(31),
                coalesce(trace_id, session_id, concat(source, chr(31), agent_id)))
        END AS call_field
    FROM obs
)
SELECT *,
    CASE WHEN call_id IS NULL THEN event_uid ELSE sha256(concat(call_field, chr(31),
        row_number() OVER (PARTITION BY call_field, tool_name, source, phase ORDER BY event_time, event_uid), chr(31), tool_name))
    END AS call_key
FROM fielded
