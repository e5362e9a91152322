-- Issued credentials whose lifetime is known.
SELECT count(*) AS examined
FROM credentials
WHERE seen_issued AND expires_at IS NOT NULL AND issued_at IS NOT NULL AND NOT coalesce(is_static, false)
