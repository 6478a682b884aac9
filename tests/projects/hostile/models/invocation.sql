select {{ 1 if invocation_id[0] == 'a' else 2 }} as a
