select {{ 1 if (run_started_at | string)[5:7] == '12' else 2 }} as a
