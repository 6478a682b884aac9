{% set found = [] %}{% for letter in var('organization_slug') %}{% if letter == 'a' %}{% do found.append(1) %}{% endif %}{% endfor %}select {{ found | length }} as a
