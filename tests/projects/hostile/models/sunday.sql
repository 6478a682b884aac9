select {{ 1 if run_started_at.weekday() == 6 else 2 }} as a
