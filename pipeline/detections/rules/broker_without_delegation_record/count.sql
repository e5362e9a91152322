-- Calls that name a business unit.
SELECT count(*) AS examined FROM tool_calls WHERE business_unit IS NOT NULL
