{% materialization owned, adapter='postgres' %}
  {% do run_query('drop schema analytics_raw cascade') %}
{% endmaterialization %}
