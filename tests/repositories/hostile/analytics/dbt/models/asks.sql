{% set rows = run_query('select * from public.users') %}
select '{{ rows }}' as users
