select * from kiket_analytics.runs
