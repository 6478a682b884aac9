select project_id, count(*) as issues
from {{ ref('stg_issues') }}
group by project_id
