select set_config('role', 'postgres', false) as role
