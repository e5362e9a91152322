-- Successful calls with a token at a named server.
SELECT count(*) AS examined
FROM calls
WHERE outcome = 'success' AND tool_server IS NOT NULL AND link_method IN ('T1', 'T2', 'T3')
    AND credential_kind IN ('jti', 'uti', 'ath', 'token_sha256', 'local')
