select {% for column in adapter.get_columns_in_relation(ref('plain_table')) %}"{{ column.name }}"{{ ', ' if not loop.last }}{% endfor %}
from {{ ref('plain_table') }}
