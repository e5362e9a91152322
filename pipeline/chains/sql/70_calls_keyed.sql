-- Observations of one call get one key.  A short call id (a JSON-RPC counter) says something
-- only inside its trace or session; records of one source and phase are never merged.
CREATE OR REPLACE TEMP TABLE keyed_obs AS
WITH clients AS (
    -- An MCP client's span names its call; a tool's span above it may have come in another
    -- batch, and then has only itself to name the call by.
    SELECT tenant_id, trace_id, parent_span_id AS span_id, tool_name, arg_max(call_id, (event_time, event_uid)) AS call_id
    FROM obs
    WHERE starts_with(source, 'otel.mcp_client') AND parent_span_id IS NOT NULL
    GROUP BY tenant_id, trace_id, parent_span_id, tool_name
),
named AS (
    SELECT obs.* EXCLUDE (call_id), coalesce(clients.call_id, obs.call_id) AS call_id
    FROM obs
    LEFT JOIN clients ON obs.tenant_id = clients.tenant_id AND obs.trace_id = clients.trace_id
        AND obs.span_id = clients.span_id AND obs.tool_name = clients.tool_name
        AND starts_with(obs.source, 'otel.tool') AND obs.call_id = concat(obs.trace_id, '/', obs.span_id)
),
fielded AS (
    SELECT *,
        CASE
            WHEN call_id IS NULL THEN event_uid
            WHEN length(call_id) >= 16 THEN concat('call:', tenant_id, chr(31), call_id)
            ELSE concat('call:', tenant_id, chr(31), call_id, chr(31),
                coalesce(trace_id, session_id, concat(source, chr(31), agent_id)))
        END AS call_field
    FROM named
)
SELECT *,
    CASE WHEN call_id IS NULL THEN event_uid ELSE sha256(concat(call_field, chr(31),
        row_number() OVER (PARTITION BY call_field, tool_name, source, phase ORDER BY event_time, event_uid), chr(31), tool_name))
    END AS call_key
FROM fielded
