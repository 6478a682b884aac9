{% if false %}{% set adapter = 1 %}{% endif %}
{% do adapter.execute('select 1') %}
select 1 as one
