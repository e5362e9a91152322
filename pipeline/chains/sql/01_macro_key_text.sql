CREATE OR REPLACE TEMP MACRO key_text(key) AS replace(key::VARCHAR, '-', '')
