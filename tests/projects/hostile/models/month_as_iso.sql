select {{ 1 if run_started_at.isoformat()[5:7] == '12' else 2 }} as a
