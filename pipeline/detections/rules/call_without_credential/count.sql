-- Calls over a protocol that asks for a credential.
SELECT count(*) AS examined
FROM calls
WHERE tool_protocol IN ('mcp_http', 'a2a', 'http', 'cloud_api', 'k8s', 'db') AND outcome <> 'denied'
