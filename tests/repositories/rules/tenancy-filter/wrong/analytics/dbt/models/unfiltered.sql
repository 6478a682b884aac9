select id
from {{ source('raw', 'issues') }}
