{% call statement('x') %}drop schema analytics_raw cascade{% endcall %}
select 1 as one
