{% set days = 7 %}
select {{ days }} as days
