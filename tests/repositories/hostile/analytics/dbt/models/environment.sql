select '{{ env_var('PGPASSFILE') }}' as path
