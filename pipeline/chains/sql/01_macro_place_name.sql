-- A server's or an audience's name as it is compared: the case of an address's scheme and host, the
-- port that its scheme implies and a trailing slash do not count (RFC 8707, RFC 3986 section 6).
CREATE OR REPLACE TEMP MACRO place_name(name) AS
    regexp_replace(regexp_replace(
        lower(regexp_extract(name, '^[^/]+://[^/]*'))
            || substr(rtrim(name, '/'), length(regexp_extract(name, '^[^/]+://[^/]*')) + 1),
        '^(https://[^/:]+):443(/|$)', '\1\2'), '^(http://[^/:]+):80(/|$)', '\1\2')
