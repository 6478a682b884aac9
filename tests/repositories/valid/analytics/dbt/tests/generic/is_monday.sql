{% test is_monday(model, column_name) %}
select *
from {{ model }}
where extract(isodow from {{ column_name }}) <> 1
{% endtest %}
