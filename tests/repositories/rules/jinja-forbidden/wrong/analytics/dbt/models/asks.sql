{% set days = run_query('select 7').columns[0].values()[0] %}
select {{ days }} as days
