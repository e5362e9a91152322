-- Calls that carry a capability tag or act beyond reading and writing.
SELECT count(*) AS examined FROM calls WHERE array_length(tags) > 0 OR action_class NOT IN ('read', 'write')
