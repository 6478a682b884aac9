select * from {{ ref('view_on_table') }} where issues > 1
