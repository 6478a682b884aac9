select * from {{ ref('chicken') }}
