select * from {{ ref('hen') }}
