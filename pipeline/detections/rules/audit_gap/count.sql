SELECT count(*) FROM watermarks
