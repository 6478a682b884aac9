select * from {{ ref('contract_table') }} where issues < 0
