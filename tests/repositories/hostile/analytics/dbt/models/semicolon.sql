select 1 as one; drop schema analytics_raw cascade
