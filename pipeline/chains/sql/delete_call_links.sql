SELECT DISTINCT event_date, event_uid FROM obs
