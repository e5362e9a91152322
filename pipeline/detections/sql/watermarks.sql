-- Per tenant, up to when every source that a rule needs is complete.
--
-- A tenant where no source reports the needed families has nothing else to wait
-- for: there the watermark of all its sources counts.
WITH sources AS (
    SELECT
        tenant_id,
        watermark,
        (has_token_events AND list_contains($sources, 'token_event'))
        OR (has_tool_calls AND list_contains($sources, 'tool_call'))
        OR (has_secret_events AND list_contains($sources, 'secret_event')) AS is_needed
    FROM watermarks
)
SELECT
    tenant_id,
    least(
        coalesce(min(watermark) FILTER (WHERE is_needed), min(watermark)), $as_of
    ) - to_seconds($grace_s) AS watermark
FROM sources
GROUP BY tenant_id
ORDER BY tenant_id
