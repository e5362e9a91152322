SELECT tenant_id, source, gap_from, gap_to, expected_interval_s, is_registered, peers_active, grace_s, heard_until, is_outage
FROM source_gaps
